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
    var properties = try message.rawProperties()
    properties.sortHeaders(without: ["x-delivery-count"])
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

extension RawProperties {
  /// Brings the headers into one order, without those that the broker adds.
  mutating func sortHeaders(without added: [String]) {
    headers?.removeAll { field in added.contains { field.isNamed($0) } }
    headers?.sort { $0.name.readableBytesView.lexicographicallyPrecedes($1.name.readableBytesView) }
    if headers?.isEmpty == true { headers = nil }
  }
}
