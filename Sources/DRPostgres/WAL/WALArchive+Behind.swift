import DRCore

extension WALArchive {
  /// Sees that a server is not behind its own archive. One that takes writes and is has lost WAL, or is an older copy of the
  /// cluster: what it writes from there on is another history under the same names.
  ///
  /// - Throws: ``DRError``: `changeLogGap`; `sourceFailed` for a standby that is behind, which may catch up.
  func checkNotBehind(_ identity: ServerIdentity, timeline: UInt32, end: LSN) throws {
    guard identity.timeline == timeline, identity.position < end else { return }
    guard identity.isStandby == false else {
      throw DRError(
        .sourceFailed, "the standby is at \(identity.position), behind the archive's \(end)",
        advice: "nothing is lost: it is tried again until the standby has caught up")
    }
    throw DRError(
      .changeLogGap,
      "the server's WAL ends at \(identity.position), before the archive's end \(end) on the same timeline: it "
        + "has lost WAL, or it is an older copy of the cluster that was started by itself",
      advice: "find out which server is right; promote a restored copy, so that it gets a timeline of its own",
      object: "\(WALSegmentName(timeline: timeline, holding: end, segmentSize: segmentSize))")
  }

  /// As ``checkNotBehind(_:timeline:end:)``, by what is stored of the server's timeline. A standby may be behind.
  func checkNotBehind(_ identity: ServerIdentity) async throws {
    guard identity.isStandby != true else { return }
    let inventory = try await inventory()
    let known = Set(inventory.segments.keys).union(inventory.partials.keys)
    let last = known.filter { $0.timeline == identity.timeline }.max { $0.number < $1.number }
    guard let end = last.flatMap(inventory.end) else { return }
    try checkNotBehind(identity, timeline: identity.timeline, end: end)
  }
}
