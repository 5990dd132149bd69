import DRCore
package import NIOCore

/// The properties of a message as the bytes that they are: also where these are no UTF-8, and however deep headers are nested.
///
/// Of headers only the first level is looked at: what a field holds begins with its length.
package struct RawProperties: Sendable {
  /// A field of a table, or an element of an array, which has no name.
  package struct Field: Sendable {
    package var name = ByteBuffer()
    /// As AMQP calls it: a letter.
    package var type: UInt8
    /// Behind the type; of what has a length, behind that.
    package var content: ByteBuffer

    /// Whether it is of this name, which is ASCII.
    package func isNamed(_ wanted: String) -> Bool { name.readableBytesView.elementsEqual(wanted.utf8) }
  }

  /// The ten properties that are texts.
  package enum Text: Int, Sendable, CaseIterable {
    // The bits of the word of flags.
    case contentType = 15
    case contentEncoding = 14
    case correlationID = 10
    case replyTo = 9
    case expiration = 8
    case messageID = 7
    case type = 5
    case userID = 4
    case appID = 3
    case clusterID = 2
  }

  private static let headers = 13
  private static let deliveryMode = 12
  private static let priority = 11
  private static let timestamp = 6

  package var texts: [Text: ByteBuffer] = [:]
  package var headers: [Field]?
  package var deliveryMode: UInt8?
  package var priority: UInt8?
  package var timestamp: UInt64?

  package init() {}

  /// - Throws: ``AMQPFormatError``.
  package init(decoding bytes: ByteBuffer) throws(AMQPFormatError) {
    var bytes = bytes
    guard let flags = bytes.readInteger(as: UInt16.self), flags & 3 == 0 else {
      throw AMQPFormatError(what: "these are no properties of a message")
    }
    let cut = AMQPFormatError(what: "a property is cut off")
    for bit in stride(from: 15, through: 2, by: -1) where flags & (1 << bit) != 0 {
      if let text = Text(rawValue: bit) {
        guard let value = bytes.readShortSlice() else { throw cut }
        texts[text] = value
        continue
      }
      switch bit {
      case Self.headers:
        guard let length = bytes.readInteger(as: UInt32.self), let table = bytes.readSlice(length: Int(length)) else {
          throw cut
        }
        headers = try Self.fields(ofTable: table)
      case Self.timestamp:
        guard let value = bytes.readInteger(as: UInt64.self) else { throw cut }
        timestamp = value
      default:
        guard let value = bytes.readInteger(as: UInt8.self) else { throw cut }
        if bit == Self.deliveryMode { deliveryMode = value } else { priority = value }
      }
    }
  }

  package func encode(into buffer: inout ByteBuffer) {
    var flags: UInt16 = 0
    let start = buffer.writerIndex
    buffer.writeInteger(flags)
    for bit in stride(from: 15, through: 2, by: -1) {
      let before = buffer.writerIndex
      if let text = Text(rawValue: bit) {
        if let value = texts[text] { buffer.writeShort(value) }
      } else if bit == Self.headers {
        if let headers {
          var table = ByteBuffer()
          for field in headers { field.encode(into: &table) }
          buffer.writeInteger(UInt32(table.readableBytes))
          buffer.writeImmutableBuffer(table)
        }
      } else if bit == Self.timestamp {
        if let timestamp { buffer.writeInteger(timestamp) }
      } else if let value = bit == Self.deliveryMode ? deliveryMode : priority {
        buffer.writeInteger(value)
      }
      if buffer.writerIndex > before { flags |= 1 << bit }
    }
    buffer.setInteger(flags, at: start)
  }

  // MARK: Fields

  /// - Parameter content: Behind its length.
  package static func fields(ofTable content: ByteBuffer) throws(AMQPFormatError) -> [Field] {
    try fields(content, areNamed: true)
  }

  /// - Parameter content: Behind its length.
  package static func fields(ofArray content: ByteBuffer) throws(AMQPFormatError) -> [Field] {
    try fields(content, areNamed: false)
  }

  private static func fields(_ content: ByteBuffer, areNamed: Bool) throws(AMQPFormatError) -> [Field] {
    var content = content
    var fields: [Field] = []
    while content.readableBytes > 0 {
      guard let name = areNamed ? content.readShortSlice() : ByteBuffer(),
        let type = content.readInteger(as: UInt8.self)
      else { throw AMQPFormatError(what: "a field is cut off") }
      let length: Int?
      switch type {
      case UInt8(ascii: "S"), UInt8(ascii: "x"), UInt8(ascii: "A"), UInt8(ascii: "F"):
        length = content.readInteger(as: UInt32.self).map { Int($0) }
      default: length = try Self.size(of: type)
      }
      guard let length, let value = content.readSlice(length: length) else {
        throw AMQPFormatError(what: "a field is cut off")
      }
      fields.append(Field(name: name, type: type, content: value))
    }
    return fields
  }

  private static func size(of type: UInt8) throws(AMQPFormatError) -> Int {
    switch type {
    case UInt8(ascii: "V"): 0
    case UInt8(ascii: "t"), UInt8(ascii: "b"), UInt8(ascii: "B"): 1
    case UInt8(ascii: "s"), UInt8(ascii: "u"): 2
    case UInt8(ascii: "I"), UInt8(ascii: "i"), UInt8(ascii: "f"): 4
    case UInt8(ascii: "D"): 5
    case UInt8(ascii: "l"), UInt8(ascii: "L"), UInt8(ascii: "d"), UInt8(ascii: "T"): 8
    default: throw AMQPFormatError(what: "the field type \(type) is not known")
    }
  }
}

extension RawProperties.Field {
  /// The value with its type before it.
  package func encodeValue(into buffer: inout ByteBuffer) {
    buffer.writeInteger(type)
    if [UInt8(ascii: "S"), UInt8(ascii: "x"), UInt8(ascii: "A"), UInt8(ascii: "F")].contains(type) {
      buffer.writeInteger(UInt32(content.readableBytes))
    }
    buffer.writeImmutableBuffer(content)
  }

  fileprivate func encode(into buffer: inout ByteBuffer) {
    buffer.writeShort(name)
    encodeValue(into: &buffer)
  }
}

extension ArchivedMessage {
  /// - Throws: ``DRError`` with `malformedData`.
  package func rawProperties() throws -> RawProperties {
    do {
      return try RawProperties(decoding: properties)
    } catch {
      throw DRError(.malformedData, "the properties of message \(number) are not AMQP: \(error)")
    }
  }

  /// Whether it has a time to live of its own.
  var expires: Bool {
    let flags = properties.getInteger(at: properties.readerIndex, as: UInt16.self) ?? 0
    return flags & (1 << RawProperties.Text.expiration.rawValue) != 0
  }
}

extension ByteBuffer {
  fileprivate mutating func readShortSlice() -> ByteBuffer? {
    guard let length = readInteger(as: UInt8.self) else { return nil }
    return readSlice(length: Int(length))
  }

  /// At most 255 bytes: what is longer is cut, as it cannot be said.
  fileprivate mutating func writeShort(_ bytes: ByteBuffer) {
    let part = bytes.getSlice(at: bytes.readerIndex, length: min(255, bytes.readableBytes)) ?? ByteBuffer()
    writeInteger(UInt8(part.readableBytes))
    writeImmutableBuffer(part)
  }
}
