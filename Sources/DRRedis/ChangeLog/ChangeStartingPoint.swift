package import DRCore

import struct Foundation.Date

/// Where a change log that was started again asks the server to go on: pure.
package struct ChangeStartingPoint: Sendable {
  private let ends: [(position: ReplicationPosition, modified: Date)]
  private let snapshots: [(position: ReplicationPosition, ended: Date)]
  private let lines: [ChangeLine]

  package init(lines: [ChangeLine], backups: [BackupManifest]) {
    self.lines = lines
    ends = lines.compactMap { line in line.end.map { ($0, line.modified ?? .distantPast) } }
    snapshots = backups.compactMap { backup in
      ReplicationPosition(backup.recoveryPoint).map { ($0, backup.ended) }
    }
  }

  /// - Parameter replication: What the server says in that section of `INFO`; nil if it does not say it to this user.
  /// - Returns: Where to go on, and where the log ends that cannot go on although it is of this server.
  package func choose(
    _ replication: RedisInfo?
  ) -> (start: ReplicationPosition?, gapAfter: ReplicationPosition?) {
    let newest = ends.max { $0.modified < $1.modified }?.position
    let latest = snapshots.max { $0.ended < $1.ended }?.position
    guard let replication else { return (newest ?? latest, nil) }
    func furthest(_ positions: [ReplicationPosition]) -> ReplicationPosition? {
      positions.max { $0.offset < $1.offset }
    }
    let own = ends.map(\.position).filter { Self.isOf($0, replication) }
    if let end = furthest(own.filter { Self.isHeld($0, replication) }) { return (end, nil) }
    // Where the log goes on from a snapshot already, but not to where this server is, the server has gone another way from there:
    // it was put back, or was behind when it took over. Two ways from one snapshot could not be told apart.
    let held = snapshots.map(\.position).filter { snapshot in
      Self.isOf(snapshot, replication) && Self.isHeld(snapshot, replication)
        && !lines.contains { $0.chain(from: snapshot)?.isEmpty == false }
    }
    if let snapshot = furthest(held) { return (snapshot, furthest(own)) }
    return (furthest(own) ?? newest ?? latest, nil)
  }

  /// Whether the server's stream is of that history, at that offset.
  private static func isOf(_ position: ReplicationPosition, _ info: RedisInfo) -> Bool {
    guard position.offset <= info.integer("master_repl_offset") ?? 0 else { return false }
    if position.history == info["master_replid"] { return true }
    return position.history == info["master_replid2"] && position.offset < info.integer("second_repl_offset") ?? 0
  }

  /// Whether the server still has what follows.
  private static func isHeld(_ position: ReplicationPosition, _ info: RedisInfo) -> Bool {
    guard info["repl_backlog_active"] == "1", let first = info.integer("repl_backlog_first_byte_offset") else {
      return false
    }
    return position.offset + 1 >= first
  }
}
