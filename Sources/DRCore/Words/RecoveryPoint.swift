public import struct Foundation.Date

/// A moment, and the system's own position for it.
public struct RecoveryPoint: Hashable, Sendable, Codable {
  /// The moment on the source's clock.
  public var time: Date
  /// The system's own position: an LSN such as `0/3000148` for PostgreSQL, an offset for Redis.
  public var position: String
  /// The history that the position belongs to, where the system has one: the timeline for PostgreSQL (`1`), the
  /// replication ID for Redis. Positions of different histories cannot be compared.
  public var history: String?
  /// Fields of a stored one that this version does not know.
  public var unknownFields: [String: JSONValue] = [:]

  public init(time: Date, position: String, history: String? = nil) {
    self.time = time
    self.position = position
    self.history = history
  }
}
