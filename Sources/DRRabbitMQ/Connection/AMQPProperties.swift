package import NIOCore

/// The 14 properties of a message, read from their encoded form.
///
/// Source: AMQP 0-9-1, section 4.2.6.1: a word of flags, the highest bit first, then the values that are there.
package struct AMQPProperties: Hashable, Sendable {
  package var contentType: String?
  package var contentEncoding: String?
  package var headers: AMQPTable?
  /// 2 is persistent.
  package var deliveryMode: UInt8?
  package var priority: UInt8?
  package var correlationID: String?
  package var replyTo: String?
  /// Milliseconds, as text.
  package var expiration: String?
  package var messageID: String?
  /// Seconds since 1970.
  package var timestamp: UInt64?
  package var type: String?
  package var userID: String?
  package var appID: String?
  package var clusterID: String?

  package init() {}

  /// - Throws: ``AMQPFormatError``.
  package init(decoding buffer: inout ByteBuffer) throws(AMQPFormatError) {
    guard let flags = buffer.readInteger(as: UInt16.self), flags & 3 == 0 else {
      throw AMQPFormatError(what: "these are no properties of a message")
    }
    func has(_ bit: Int) -> Bool { flags & (1 << bit) != 0 }
    func text(_ bit: Int) throws(AMQPFormatError) -> String? {
      guard has(bit) else { return nil }
      guard let text = buffer.readShortString() else { throw AMQPFormatError(what: "a property is cut off") }
      return text
    }
    func number<Number: FixedWidthInteger>(_ bit: Int) throws(AMQPFormatError) -> Number? {
      guard has(bit) else { return nil }
      guard let value = buffer.readInteger(as: Number.self) else {
        throw AMQPFormatError(what: "a property is cut off")
      }
      return value
    }
    contentType = try text(15)
    contentEncoding = try text(14)
    headers = has(13) ? try AMQPTable(decoding: &buffer) : nil
    deliveryMode = try number(12)
    priority = try number(11)
    correlationID = try text(10)
    replyTo = try text(9)
    expiration = try text(8)
    messageID = try text(7)
    timestamp = try number(6)
    type = try text(5)
    userID = try text(4)
    appID = try text(3)
    clusterID = try text(2)
  }

  package func encode(into buffer: inout ByteBuffer) {
    var flags: UInt16 = 0
    let start = buffer.writerIndex
    buffer.writeInteger(flags)
    func text(_ value: String?, _ bit: Int) {
      guard let value else { return }
      flags |= 1 << bit
      buffer.writeShortString(value)
    }
    func number(_ value: (some FixedWidthInteger)?, _ bit: Int) {
      guard let value else { return }
      flags |= 1 << bit
      buffer.writeInteger(value)
    }
    text(contentType, 15)
    text(contentEncoding, 14)
    if let headers {
      flags |= 1 << 13
      headers.encode(into: &buffer)
    }
    number(deliveryMode, 12)
    number(priority, 11)
    text(correlationID, 10)
    text(replyTo, 9)
    text(expiration, 8)
    text(messageID, 7)
    number(timestamp, 6)
    text(type, 5)
    text(userID, 4)
    text(appID, 3)
    text(clusterID, 2)
    buffer.setInteger(flags, at: start)
  }
}
