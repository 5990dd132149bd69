public import DRCore

extension [BackupManifest] {
  /// The newest one that is suitable, to go on from; nil if so many hang together with it that the next one had better be whole, or if
  /// one of these is gone.
  public func newestToGoOnFrom(limit: Int, where isSuitable: (BackupManifest) -> Bool) -> BackupManifest? {
    let newest = filter(isSuitable).max { ($0.ended, $0.id) < ($1.ended, $1.id) }
    var (link, length) = (newest, 0)
    while let current = link, length < limit {
      length += 1
      guard let parent = current.parent else { break }
      guard let next = first(where: { $0.id == parent && $0.component == current.component }) else { return nil }
      link = next
    }
    return length < limit ? newest : nil
  }
}
