import DRCore
import NIOCore

import struct Foundation.Date
import class Foundation.JSONDecoder
import class Foundation.JSONEncoder

/// The object that says that a backup is being written: it reserves the backup's identity, and while it is refreshed the
/// artifacts are not taken for remains.
struct BackupMarker: Codable, Sendable {
  var id: String
  var component: Component
  /// ISO 8601.
  var started: String
  /// The last sign of life, ISO 8601. For people: what counts is the object's age on the tier's clock.
  var alive: String
  /// Random, so that no two writers ever write the same bytes: a put whose answer was lost can be told from another's.
  var writer: String?

  init(id: String, component: Component, started: Date, alive: Date) {
    self.id = id
    self.component = component
    self.started = Timestamp.format(started)
    self.alive = Timestamp.format(alive)
    writer = RandomName.hex()
  }

  func encoded() throws -> ByteBuffer {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return ByteBuffer(bytes: try encoder.encode(self))
  }

  /// Nil for a marker that cannot be read: it still reserves its identity.
  static func decoded(_ buffer: ByteBuffer) -> BackupMarker? {
    try? JSONDecoder().decode(BackupMarker.self, from: .init(buffer.readableBytesView))
  }
}
