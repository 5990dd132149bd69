/// Strings of an RDB file in their plain form.
enum RDBString {
  /// The bytes of a whole string, or nil if it is compressed and not sound.
  static func bytes(_ stored: UnsafeRawBufferPointer, _ header: RDBStringHeader) -> [UInt8]? {
    switch header.form {
    case .raw: return Array(stored)
    case .lzf:
      guard header.length <= LZF.mostBytes(of: UInt64(stored.count)) else { return nil }
      var sound = false
      let bytes = [UInt8](unsafeUninitializedCapacity: Int(header.length)) { buffer, count in
        sound = LZF.decompress(stored, into: UnsafeMutableRawBufferPointer(buffer))
        count = sound ? buffer.count : 0
      }
      return sound ? bytes : nil
    case .int8, .int16, .int32:
      return number(stored, header.form).map { Array(String($0).utf8) }
    }
  }

  /// A string for people: whole, or its start; what is no text is shown as `\x00`.
  static func text(_ stored: UnsafeRawBufferPointer, _ header: RDBStringHeader, limit: Int) -> String {
    let isWhole = UInt64(stored.count) == header.payload
    switch header.form {
    case .raw: break
    case .lzf:
      guard isWhole, header.length <= 1 << 20, let bytes = bytes(stored, header) else {
        return "(\(header.length) bytes, compressed)"
      }
      return show(bytes.prefix(limit)) + (bytes.count > limit ? "… (\(bytes.count) bytes)" : "")
    case .int8, .int16, .int32:
      return number(stored, header.form).map(String.init) ?? "?"
    }
    return show(stored.prefix(limit)) + (header.payload > UInt64(limit) ? "… (\(header.payload) bytes)" : "")
  }

  /// Bytes for people, cut after 256.
  static func shown(_ bytes: UnsafeRawBufferPointer) -> String {
    show(bytes.prefix(256)) + (bytes.count > 256 ? "… (\(bytes.count) bytes)" : "")
  }

  private static func number(_ stored: UnsafeRawBufferPointer, _ form: RDBStringHeader.Form) -> Int64? {
    switch form {
    case .int8 where stored.count == 1: return Int64(stored.load(as: Int8.self))
    case .int16 where stored.count == 2: return Int64(Int16(littleEndian: stored.loadUnaligned(as: Int16.self)))
    case .int32 where stored.count == 4: return Int64(Int32(littleEndian: stored.loadUnaligned(as: Int32.self)))
    default: return nil
    }
  }

  private static func show(_ bytes: some Collection<UInt8>) -> String {
    if let text = String(validating: bytes, as: UTF8.self), !text.unicodeScalars.contains(where: { $0.value < 32 }) {
      return text
    }
    return bytes.reduce(into: "") { text, byte in
      if (32..<127).contains(byte), byte != UInt8(ascii: "\\") {
        text.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        let digits = String(byte, radix: 16)
        text += "\\x" + (digits.count < 2 ? "0" : "") + digits
      }
    }
  }
}
