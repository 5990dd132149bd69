/// Tells a file that is a private key in DER, or a PKCS#12 key store, from what else begins with a SEQUENCE: certificates, requests,
/// public keys. Pure.
///
/// Formats: PKCS#8 and its encrypted form (RFC 5958), PKCS#1 (RFC 8017) and what OpenSSL wrote for DSA, SEC 1 (RFC 5915), PKCS#12
/// (RFC 7292, which some programs write with lengths left open).
enum DERKey {
  /// PKCS#5 (RFC 8018), and PKCS#12's own ways to encrypt.
  private static let encryptions: [[UInt8]] = [
    [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x05], [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x0C, 0x01],
  ]
  private static let contents: [UInt8] = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07]

  private static let sequence: UInt8 = 0x30
  private static let identifier: UInt8 = 0x06

  /// - Parameters:
  ///   - head: The beginning of the file.
  ///   - length: Of the file: a key is all of it.
  static func isPrivate(_ head: UnsafeRawBufferPointer, length: Int64) -> Bool {
    guard length >= 32, let outer = element(head, at: 0), outer.tag == sequence else { return false }
    if let count = outer.count {
      // Perhaps with the newline of whoever wrote it.
      guard (Int64(outer.start + count)...Int64(outer.start + count) + 2).contains(length) else { return false }
    }
    guard let first = element(head, at: outer.start) else { return false }
    if first.tag == sequence { return outer.count != nil && isEncryption(head, first.start) }
    guard first.tag == 0x02, first.count == 1, first.start + 1 < head.count,
      let second = element(head, at: first.start + 1)
    else { return false }
    switch (head[first.start], second.tag) {
    case (0, sequence), (1, sequence):
      guard outer.count != nil, let algorithm = element(head, at: second.start) else { return false }
      return algorithm.tag == identifier
    case (0, 0x02): return outer.count != nil && (second.count ?? 0) >= 32
    case (1, 0x04): return outer.count != nil && (20...66).contains(second.count ?? 0)
    case (3, sequence): return head[min(second.start, head.count)...].starts(with: contents)
    default: return false
    }
  }

  private static func isEncryption(_ head: UnsafeRawBufferPointer, _ start: Int) -> Bool {
    guard let algorithm = element(head, at: start), algorithm.tag == identifier else { return false }
    return encryptions.contains { head[min(algorithm.start, head.count)...].starts(with: $0) }
  }

  /// The head of an element, and where its content starts; its length is nil if it is left open.
  private static func element(
    _ bytes: UnsafeRawBufferPointer, at offset: Int
  ) -> (tag: UInt8, count: Int?, start: Int)? {
    guard offset + 2 <= bytes.count else { return nil }
    let (tag, short) = (bytes[offset], Int(bytes[offset + 1]))
    if short < 0x80 { return (tag, short, offset + 2) }
    if short == 0x80 { return (tag, nil, offset + 2) }
    let digits = short - 0x80
    guard digits <= 4, offset + 2 + digits <= bytes.count else { return nil }
    let count = bytes[offset + 2..<offset + 2 + digits].reduce(0) { $0 << 8 | Int($1) }
    return (tag, count, offset + 2 + digits)
  }
}
