/// A log sequence number: a position in PostgreSQL's write-ahead log, in bytes from its start. Written `0/3000148`.
public struct LSN: Hashable, Sendable, Comparable, CustomStringConvertible {
  public let rawValue: UInt64

  public init(_ rawValue: UInt64) { self.rawValue = rawValue }

  /// Reads the text form: two hexadecimal numbers of up to eight digits with a slash between them. Nil for all else.
  public init?(_ text: some StringProtocol) {
    let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard parts.count == 2, let high = LSN.hexadecimal(parts[0]), let low = LSN.hexadecimal(parts[1]) else {
      return nil
    }
    rawValue = UInt64(high) << 32 | UInt64(low)
  }

  public var description: String {
    String(rawValue >> 32, radix: 16, uppercase: true) + "/"
      + String(rawValue & 0xFFFF_FFFF, radix: 16, uppercase: true)
  }

  public static func < (left: LSN, right: LSN) -> Bool { left.rawValue < right.rawValue }

  /// The position this many bytes later; the last position there is, if it would lie beyond.
  package func advanced(by bytes: UInt64) -> LSN {
    let (sum, overflow) = rawValue.addingReportingOverflow(bytes)
    return LSN(overflow ? .max : sum)
  }

  /// Bytes from another position to this one; 0 if this one is before it.
  package func bytes(after other: LSN) -> UInt64 { rawValue > other.rawValue ? rawValue - other.rawValue : 0 }

  private static func hexadecimal(_ text: some Collection<UInt8>) -> UInt32? {
    guard (1...8).contains(text.count) else { return nil }
    var value: UInt32 = 0
    for byte in text {
      guard let digit = HexDigit.value(byte) else { return nil }
      value = value << 4 | UInt32(digit)
    }
    return value
  }
}

extension LSN: Codable {
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let value = LSN(try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not an LSN such as 0/3000148")
    }
    self = value
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// Hexadecimal digits as bytes.
enum HexDigit {
  static func value(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    default: nil
    }
  }
}
