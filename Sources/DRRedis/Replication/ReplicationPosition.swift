package import DRCore

package import struct Foundation.Date

/// A place in a replication stream: the offset of the last byte that is behind it, in one history.
package struct ReplicationPosition: Hashable, Sendable, CustomStringConvertible {
  /// The replication ID: 40 hexadecimal digits. Offsets of different histories cannot be compared, but for a failover,
  /// after which the stream goes on under a new ID.
  package var history: String
  /// Bytes of the stream up to here.
  package var offset: Int64

  package init(history: String, offset: Int64) {
    self.history = history
    self.offset = offset
  }

  /// Reads `<id>:<offset>`.
  package init?(parsing text: String) {
    let parts = text.split(separator: ":")
    guard parts.count == 2, ReplicationPosition.isHistory(String(parts[0])), let offset = Int64(parts[1]), offset >= 0
    else { return nil }
    self.init(history: String(parts[0]), offset: offset)
  }

  package static func isHistory(_ text: String) -> Bool {
    text.utf8.count == 40 && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
  }

  package var description: String { "\(history):\(offset)" }

  package func recoveryPoint(at time: Date) -> RecoveryPoint {
    RecoveryPoint(time: time, position: "\(offset)", history: history)
  }
}

extension ReplicationPosition {
  /// Nil for a recovery point that says no history.
  package init?(_ point: RecoveryPoint) {
    guard let history = point.history, ReplicationPosition.isHistory(history), let offset = Int64(point.position),
      offset >= 0
    else { return nil }
    self.init(history: history, offset: offset)
  }
}
