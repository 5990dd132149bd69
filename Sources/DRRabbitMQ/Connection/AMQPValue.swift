package import NIOCore

/// A field value of AMQP 0-9-1 as RabbitMQ speaks it: its 18 types.
///
/// Source: RabbitMQ, "AMQP 0-9-1 Errata", section 3, field types.
package indirect enum AMQPValue: Hashable, Sendable {
  case bool(Bool)
  case int8(Int8)
  case uint8(UInt8)
  case int16(Int16)
  case uint16(UInt16)
  case int32(Int32)
  case uint32(UInt32)
  case int64(Int64)
  /// A broker that writes headers anew (streams do, and quorum queues that deliver again) gives it back as ``int64(_:)`` of the same bits.
  case uint64(UInt64)
  case float(Float)
  case double(Double)
  /// The value before the point is applied, and how many digits come after the point.
  case decimal(UInt32, scale: UInt8)
  case string(String)
  case bytes([UInt8])
  /// Seconds since 1970.
  case timestamp(UInt64)
  case array([AMQPValue])
  case table(AMQPTable)
  case void
}

/// A field table: names and values, in their order.
package struct AMQPTable: Hashable, Sendable, ExpressibleByDictionaryLiteral {
  package struct Entry: Hashable, Sendable {
    package var name: String
    package var value: AMQPValue

    package init(_ name: String, _ value: AMQPValue) {
      self.name = name
      self.value = value
    }
  }

  package var entries: [Entry]

  package init(_ entries: [Entry] = []) { self.entries = entries }

  package init(dictionaryLiteral elements: (String, AMQPValue)...) {
    entries = elements.map { Entry($0, $1) }
  }

  package subscript(name: String) -> AMQPValue? { entries.first { $0.name == name }?.value }
}

extension AMQPValue {
  /// The whole number that this holds, if it does.
  package var integer: Int64? {
    switch self {
    case .int8(let value): Int64(value)
    case .uint8(let value): Int64(value)
    case .int16(let value): Int64(value)
    case .uint16(let value): Int64(value)
    case .int32(let value): Int64(value)
    case .uint32(let value): Int64(value)
    case .int64(let value): value
    case .uint64(let value): Int64(exactly: value)
    default: nil
    }
  }
}

// MARK: - On the wire

extension AMQPTable {
  /// The table with its length before it.
  package func encode(into buffer: inout ByteBuffer) {
    AMQPValue.withLength(&buffer) { buffer in
      for entry in entries {
        buffer.writeShortString(entry.name)
        entry.value.encode(into: &buffer)
      }
    }
  }

  /// Reads a table with its length before it.
  ///
  /// - Throws: ``AMQPFormatError``.
  package init(decoding buffer: inout ByteBuffer, depth: Int = 0) throws(AMQPFormatError) {
    guard let length = buffer.readInteger(as: UInt32.self), var body = buffer.readSlice(length: Int(length)) else {
      throw AMQPFormatError(what: "a table is cut off")
    }
    entries = []
    while body.readableBytes > 0 {
      guard let name = body.readShortString() else { throw AMQPFormatError(what: "a field's name is cut off") }
      entries.append(Entry(name, try AMQPValue(decoding: &body, depth: depth)))
    }
  }
}

extension AMQPValue {
  package func encode(into buffer: inout ByteBuffer) {
    func tag(_ character: Character) { buffer.writeString(String(character)) }
    switch self {
    case .bool(let value):
      tag("t")
      buffer.writeInteger(UInt8(value ? 1 : 0))
    case .int8(let value):
      tag("b")
      buffer.writeInteger(value)
    case .uint8(let value):
      tag("B")
      buffer.writeInteger(value)
    case .int16(let value):
      tag("s")
      buffer.writeInteger(value)
    case .uint16(let value):
      tag("u")
      buffer.writeInteger(value)
    case .int32(let value):
      tag("I")
      buffer.writeInteger(value)
    case .uint32(let value):
      tag("i")
      buffer.writeInteger(value)
    case .int64(let value):
      tag("l")
      buffer.writeInteger(value)
    case .uint64(let value):
      tag("L")
      buffer.writeInteger(value)
    case .float(let value):
      tag("f")
      buffer.writeInteger(value.bitPattern)
    case .double(let value):
      tag("d")
      buffer.writeInteger(value.bitPattern)
    case .decimal(let value, let scale):
      tag("D")
      buffer.writeInteger(scale)
      buffer.writeInteger(value)
    case .string(let text):
      tag("S")
      buffer.writeInteger(UInt32(text.utf8.count))
      buffer.writeString(text)
    case .bytes(let bytes):
      tag("x")
      buffer.writeInteger(UInt32(bytes.count))
      buffer.writeBytes(bytes)
    case .timestamp(let seconds):
      tag("T")
      buffer.writeInteger(seconds)
    case .array(let values):
      tag("A")
      AMQPValue.withLength(&buffer) { buffer in for value in values { value.encode(into: &buffer) } }
    case .table(let table):
      tag("F")
      table.encode(into: &buffer)
    case .void:
      tag("V")
    }
  }

  /// Tables within tables, at most: a hostile header must not exhaust the stack.
  private static let deepest = 64

  /// Reads a value with its type before it.
  ///
  /// - Throws: ``AMQPFormatError``.
  package init(decoding buffer: inout ByteBuffer, depth: Int = 0) throws(AMQPFormatError) {
    guard depth < Self.deepest else { throw AMQPFormatError(what: "fields are nested more than \(Self.deepest) deep") }
    func number<Number: FixedWidthInteger>(_ type: Number.Type = Number.self) throws(AMQPFormatError) -> Number {
      guard let value = buffer.readInteger(as: type) else { throw AMQPFormatError(what: "a field is cut off") }
      return value
    }
    func slice() throws(AMQPFormatError) -> ByteBuffer {
      guard let slice = buffer.readSlice(length: Int(try number(UInt32.self))) else {
        throw AMQPFormatError(what: "a field is cut off")
      }
      return slice
    }
    let type = try number(UInt8.self)
    switch type {
    case UInt8(ascii: "t"): self = .bool(try number(UInt8.self) != 0)
    case UInt8(ascii: "b"): self = .int8(try number())
    case UInt8(ascii: "B"): self = .uint8(try number())
    case UInt8(ascii: "s"): self = .int16(try number())
    case UInt8(ascii: "u"): self = .uint16(try number())
    case UInt8(ascii: "I"): self = .int32(try number())
    case UInt8(ascii: "i"): self = .uint32(try number())
    case UInt8(ascii: "l"): self = .int64(try number())
    case UInt8(ascii: "L"): self = .uint64(try number())
    case UInt8(ascii: "f"): self = .float(Float(bitPattern: try number()))
    case UInt8(ascii: "d"): self = .double(Double(bitPattern: try number()))
    case UInt8(ascii: "D"):
      let scale: UInt8 = try number()
      self = .decimal(try number(), scale: scale)
    case UInt8(ascii: "S"): self = .string(String(buffer: try slice()))
    case UInt8(ascii: "x"): self = .bytes(Array(buffer: try slice()))
    case UInt8(ascii: "T"): self = .timestamp(try number())
    case UInt8(ascii: "A"):
      var body = try slice()
      var values: [AMQPValue] = []
      while body.readableBytes > 0 { values.append(try AMQPValue(decoding: &body, depth: depth + 1)) }
      self = .array(values)
    case UInt8(ascii: "F"): self = .table(try AMQPTable(decoding: &buffer, depth: depth + 1))
    case UInt8(ascii: "V"): self = .void
    default: throw AMQPFormatError(what: "the field type \(type) is not known")
    }
  }

  fileprivate static func withLength(_ buffer: inout ByteBuffer, _ body: (inout ByteBuffer) -> Void) {
    let start = buffer.writerIndex
    buffer.writeInteger(UInt32(0))
    body(&buffer)
    buffer.setInteger(UInt32(buffer.writerIndex - start - 4), at: start)
  }
}

/// Bytes that are not AMQP 0-9-1.
package struct AMQPFormatError: Error, Hashable, CustomStringConvertible {
  package var what: String
  package var description: String { what }
}

extension ByteBuffer {
  /// At most 255 bytes: what is longer is cut, as it cannot be said.
  mutating func writeShortString(_ text: String) {
    let bytes = text.utf8.prefix(255)
    writeInteger(UInt8(bytes.count))
    writeBytes(bytes)
  }

  mutating func readShortString() -> String? {
    guard let length = readInteger(as: UInt8.self) else { return nil }
    return readString(length: Int(length))
  }
}
