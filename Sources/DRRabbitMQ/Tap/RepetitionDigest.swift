import DRCore
import NIOCore

/// What tells messages that come again from others: everything of them but what the broker changes between two deliveries.
///
/// A quorum queue adds its count of deliveries to the headers and sorts them.
package struct RepetitionDigest {
  private var digest = StreamDigest()
  package private(set) var messages = 0

  package init() {}

  /// - Throws: ``DRError`` with `malformedData`.
  package mutating func add(_ message: ArchivedMessage) throws {
    var properties = try message.decodedProperties()
    properties.headers?.entries.removeAll { $0.name == "x-delivery-count" }
    properties.headers?.entries.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    if properties.headers?.entries.isEmpty == true { properties.headers = nil }
    var encoded = ByteBuffer()
    properties.encode(into: &encoded)
    // Each with its length, so that no two sequences of parts are the same bytes.
    for part in [ByteBuffer(string: message.exchange), message.routingKey, encoded, message.body] {
      digest.update(ByteBuffer(integer: UInt64(part.readableBytes)))
      digest.update(part)
    }
    messages += 1
  }

  package func hex() -> String { digest.hex() }
}
