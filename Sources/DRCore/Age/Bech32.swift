/// Bech32 as in BIP 173, without its limit on the length: how age writes keys.
///
/// No error here repeats the text: it may be a secret.
enum Bech32 {
  private static let alphabet = Array("qpzry9x8gf2tvdw0s3jn54khce6mua7l".utf8)
  private static let generator: [UInt32] = [0x3B6A_57B2, 0x2650_8E6D, 0x1EA1_19FA, 0x3D42_33DD, 0x2A14_62B3]

  /// Encodes bytes, in lower case. The prefix is in lower case and printable ASCII.
  static func encode(prefix: String, _ data: [UInt8]) -> String {
    let values = regroup(data, from: 8, to: 5, pad: true) ?? []
    let checked = expand(Array(prefix.utf8)) + values
    let remainder = checksum(checked + [0, 0, 0, 0, 0, 0]) ^ 1
    let tail = (0..<6).map { UInt8(truncatingIfNeeded: remainder >> UInt32(5 * (5 - $0))) & 31 }
    return prefix + "1" + String(decoding: (values + tail).map { alphabet[Int($0)] }, as: UTF8.self)
  }

  /// Decodes a text that is all in lower or all in upper case. The prefix comes back as it was written.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  static func decode(_ text: String) throws -> (prefix: String, data: [UInt8]) {
    func refuse(_ why: String) -> DRError {
      DRError(.invalidConfiguration, "a key \(why)", advice: "copy the key again, whole")
    }
    let bytes = Array(text.utf8)
    guard bytes.allSatisfy({ (33...126).contains($0) }) else { throw refuse("holds a character that no key has") }
    let lower = bytes.map { (65...90).contains($0) ? $0 + 32 : $0 }
    guard lower == bytes || !bytes.contains(where: { (97...122).contains($0) }) else {
      throw refuse("mixes upper and lower case")
    }
    guard let separator = lower.lastIndex(of: UInt8(ascii: "1")), separator > 0, lower.count - separator > 6 else {
      throw refuse("has no prefix or is too short")
    }
    var values: [UInt8] = []
    for byte in lower[(separator + 1)...] {
      guard let value = alphabet.firstIndex(of: byte) else { throw refuse("holds a character that no key has") }
      values.append(UInt8(value))
    }
    guard checksum(expand(Array(lower[..<separator])) + values) == 1 else {
      throw refuse("is mistyped or cut off: its checksum is wrong")
    }
    guard let data = regroup(Array(values.dropLast(6)), from: 5, to: 8, pad: false) else {
      throw refuse("has a wrong padding")
    }
    return (String(decoding: bytes[..<separator], as: UTF8.self), data)
  }

  private static func expand(_ prefix: [UInt8]) -> [UInt8] {
    prefix.map { $0 >> 5 } + [0] + prefix.map { $0 & 31 }
  }

  private static func checksum(_ values: [UInt8]) -> UInt32 {
    var sum: UInt32 = 1
    for value in values {
      let top = sum >> 25
      sum = (sum & 0x1FF_FFFF) << 5 ^ UInt32(value)
      for (bit, term) in generator.enumerated() where top >> UInt32(bit) & 1 == 1 { sum ^= term }
    }
    return sum
  }

  /// Groups bits anew. Without padding, nil if what is left over is a whole group or is not zero.
  private static func regroup(_ values: [UInt8], from: UInt32, to: UInt32, pad: Bool) -> [UInt8]? {
    var result: [UInt8] = []
    var held: UInt32 = 0
    var bits: UInt32 = 0
    for value in values {
      held = (held << from | UInt32(value)) & 0xFFF
      bits += from
      while bits >= to {
        bits -= to
        result.append(UInt8(truncatingIfNeeded: held >> bits & (1 << to - 1)))
      }
    }
    let left = held & (1 << bits - 1)
    if pad {
      if bits > 0 { result.append(UInt8(truncatingIfNeeded: left << (to - bits))) }
    } else if bits >= from || left != 0 {
      return nil
    }
    return result
  }
}
