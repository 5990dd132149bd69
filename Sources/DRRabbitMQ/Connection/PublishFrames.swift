import NIOCore

/// Messages as they go to the broker, many for one send: a library's call for each would take three.
///
/// Source: AMQP 0-9-1, sections 2.3.5 (frames), 4.2.6 (content), and `basic.publish` (60, 40) of its XML.
struct PublishFrames: Sendable {
  private static let basic: UInt16 = 60
  private static let publish: UInt16 = 40
  private static let end: UInt8 = 0xCE
  /// What surrounds a frame's payload.
  private static let overhead = 8

  var buffer = ByteBuffer()

  /// Adds a message: mandatory, so that the broker gives back what reaches no queue.
  ///
  /// - Parameters:
  ///   - exchange: 255 bytes at most, as is the routing key.
  ///   - properties: As AMQP encodes them.
  ///   - frameLimit: Bytes of a frame, as the broker and we agreed.
  mutating func add(
    exchange: UnsafeRawBufferPointer, routingKey: UnsafeRawBufferPointer, properties: UnsafeRawBufferPointer,
    body: ByteBuffer, channel: UInt16, frameLimit: Int
  ) {
    let method = 2 + 2 + 2 + 1 + exchange.count + 1 + routingKey.count + 1
    buffer.writeMultipleIntegers(UInt8(1), channel, UInt32(method), Self.basic, Self.publish, UInt16(0))
    buffer.writeInteger(UInt8(exchange.count))
    buffer.writeBytes(exchange)
    buffer.writeInteger(UInt8(routingKey.count))
    buffer.writeBytes(routingKey)
    buffer.writeMultipleIntegers(UInt8(1), Self.end)

    let header = UInt32(2 + 2 + 8 + properties.count)
    buffer.writeMultipleIntegers(UInt8(2), channel, header, Self.basic, UInt16(0), UInt64(body.readableBytes))
    buffer.writeBytes(properties)
    buffer.writeInteger(Self.end)

    body.withUnsafeReadableBytes { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        let piece = rest.prefix(frameLimit - Self.overhead)
        buffer.writeMultipleIntegers(UInt8(3), channel, UInt32(piece.count))
        buffer.writeBytes(UnsafeRawBufferPointer(rebasing: piece))
        buffer.writeInteger(Self.end)
        rest = rest.dropFirst(piece.count)
      }
    }
  }
}
