import DRCore

/// What a server says about itself on a replication connection.
struct ServerIdentity: Hashable, Sendable {
  let systemIdentifier: String
  let timeline: UInt32
  /// How far its log is durable.
  let position: LSN
  let segmentSize: WALSegmentSize
  /// 150018 is 15.18.
  let version: Int
  /// Nil before version 14, which do not say.
  let isStandby: Bool?

  init(_ connection: PostgresConnection) async throws {
    let row = try await connection.query("IDENTIFY_SYSTEM").first
    guard let identifier = row?["systemid"], let timeline = row?["timeline"].flatMap({ UInt32($0) }),
      let position = row?["xlogpos"].flatMap({ LSN($0) })
    else { throw DRError(.sourceFailed, "the server's answer to IDENTIFY_SYSTEM cannot be read") }
    systemIdentifier = identifier
    self.timeline = timeline
    self.position = position
    let size = try await connection.query("SHOW wal_segment_size").single ?? ""
    guard let parsed = ServerIdentity.segmentSize(size) else {
      throw DRError(.sourceFailed, "the server says that its WAL segments have '\(size.prefix(20))'")
    }
    segmentSize = parsed
    version = try await connection.serverVersionNumber
    isStandby = try await connection.parameterStatus("in_hot_standby").map { $0 == "on" }
  }

  /// `16MB`, `1GB`.
  static func segmentSize(_ text: String) -> WALSegmentSize? {
    let units = [("MB", 1 << 20), ("GB", 1 << 30), ("kB", 1 << 10)]
    for (unit, factor) in units where text.hasSuffix(unit) {
      guard let number = Int(text.dropLast(2)), (1...1 << 20).contains(number) else { return nil }
      return try? WALSegmentSize(number * factor)
    }
    return nil
  }
}
