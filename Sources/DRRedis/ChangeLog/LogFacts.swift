import DRCore

/// What the manifests of backups know of the change log: what was there once, and must be there still where a backup needs it.
///
/// The log itself cannot say that all of it is gone, nor that its end and the note of that (``LogHead``) are.
extension BackupManifest {
  static let followedProperty = "changeLogFollows"
  static let storedProperty = "changeLogStoredThrough"

  /// Whether a receiver took it, which then followed the server from there.
  var isFollowed: Bool { properties[Self.followedProperty] == .bool(true) || changeLogGap != nil }

  /// Through where a log was stored when the backup was taken.
  var knownLogEnd: ReplicationPosition? {
    properties[Self.storedProperty]?.string.flatMap { ReplicationPosition(parsing: $0) }
  }
}

extension [ChangeLine] {
  /// The same, with what backups know of the lines, and of lines of which nothing is left.
  func knowing(_ backups: [BackupManifest]) -> [ChangeLine] {
    var lines = self
    for end in backups.compactMap(\.knownLogEnd) {
      guard let index = lines.firstIndex(where: { $0.knows(end.history) }) else {
        var line = ChangeLine(id: end.history, [])
        line.head = end
        lines.append(line)
        continue
      }
      if end.offset > lines[index].head?.offset ?? -1 { lines[index].head = end }
    }
    return lines
  }

  /// Whether the log that followed a backup is gone, with all that it said of itself.
  func hasLostAll(behind backup: BackupManifest) -> Bool {
    guard backup.isFollowed, let start = ReplicationPosition(backup.recoveryPoint) else { return false }
    return !contains { $0.knows(start.history) }
  }
}

extension RedisLogArchive {
  /// How far the log that a server's history belongs to is stored; nil if there is none.
  func storedEnd(of history: String) async throws -> ReplicationPosition? {
    try await lines().first { $0.knows(history) }?.end
  }
}
