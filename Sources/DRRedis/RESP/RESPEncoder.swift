package import NIOCore

extension ByteBuffer {
  /// Writes a command as clients send it: an array of bulk strings.
  package mutating func writeRESPCommand(_ arguments: [String]) {
    writeRESPHeader("*", arguments.count)
    for argument in arguments { writeRESPBulk(argument) }
  }

  /// Writes a command whose arguments are bytes.
  package mutating func writeRESPCommand(_ arguments: [ByteBuffer]) {
    writeRESPHeader("*", arguments.count)
    for argument in arguments { writeRESPBulk(argument) }
  }

  /// Writes `*3\r\n` and the like.
  package mutating func writeRESPHeader(_ kind: Unicode.Scalar, _ count: Int) {
    writeInteger(UInt8(truncatingIfNeeded: kind.value))
    // By hand: this runs for every argument of every key of a restore.
    var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
    var rest = count.magnitude
    withUnsafeMutableBytes(of: &digits) { digits in
      var start = digits.count
      repeat {
        start -= 1
        digits[start] = UInt8(48 + rest % 10)
        rest /= 10
      } while rest > 0
      if count < 0 {
        start -= 1
        digits[start] = UInt8(ascii: "-")
      }
      writeBytes(UnsafeRawBufferPointer(rebasing: digits[start...]))
    }
    writeInteger(0x0D0A as UInt16)
  }

  package mutating func writeRESPBulk(_ text: String) {
    writeRESPHeader("$", text.utf8.count)
    writeString(text)
    writeInteger(0x0D0A as UInt16)
  }

  package mutating func writeRESPBulk(_ bytes: ByteBuffer) {
    writeRESPHeader("$", bytes.readableBytes)
    writeImmutableBuffer(bytes)
    writeInteger(0x0D0A as UInt16)
  }

  package mutating func writeRESPBulk(_ bytes: UnsafeRawBufferPointer) {
    writeRESPHeader("$", bytes.count)
    writeBytes(bytes)
    writeInteger(0x0D0A as UInt16)
  }

  /// Writes a value as a server of protocol 3 sends it.
  package mutating func writeRESP(_ value: RESPValue) {
    func line(_ kind: String, _ text: String, into buffer: inout ByteBuffer) {
      // A line cannot hold its own end.
      buffer.writeString(
        kind + String(text.unicodeScalars.map { $0 == "\r" || $0 == "\n" ? " " : Character($0) }) + "\r\n")
    }
    func aggregate(_ kind: Unicode.Scalar, _ values: [RESPValue], into buffer: inout ByteBuffer) {
      buffer.writeRESPHeader(kind, values.count)
      for value in values { buffer.writeRESP(value) }
    }
    switch value {
    case .null: writeString("_\r\n")
    case .simple(let text): line("+", text, into: &self)
    case .error(let error): line("-", error.description, into: &self)
    case .integer(let number): line(":", "\(number)", into: &self)
    case .bulk(let bytes): writeRESPBulk(bytes)
    case .array(let values): aggregate("*", values, into: &self)
    case .double(let number):
      line(",", number.isNaN ? "nan" : number.isInfinite ? (number < 0 ? "-inf" : "inf") : "\(number)", into: &self)
    case .boolean(let flag): writeString(flag ? "#t\r\n" : "#f\r\n")
    case .bigNumber(let digits): line("(", digits, into: &self)
    case .set(let values): aggregate("~", values, into: &self)
    case .push(let values): aggregate(">", values, into: &self)
    case .map(let pairs):
      writeRESPHeader("%", pairs.count)
      for pair in pairs {
        writeRESP(pair.key)
        writeRESP(pair.value)
      }
    }
  }
}
