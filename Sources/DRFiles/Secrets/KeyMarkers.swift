import Foundation

/// Looks for private keys in text, piece by piece: PEM of every kind (PKCS#1, PKCS#8, SEC 1, OpenSSH, SSH2, PGP) and age identities.
///
/// All of a file is looked at, at the speed of memory: every marker holds eight bytes, at a multiple of eight, of one of a few
/// values, and those are of capital letters, spaces and hyphens alone, which most of a file is not.
struct KeyMarkers {
  private(set) var isFound = false
  private var carry: [UInt8] = []

  /// Longer than anything that is looked for, with what must stand before and behind it.
  private static let overlap = 96
  private static let pem = [UInt8]("PRIVATE KEY".utf8)
  private static let age = [UInt8]("AGE-SECRET-KEY-".utf8)
  private static let beginnings = [[UInt8]("-----BEGIN ".utf8), [UInt8]("---- BEGIN ".utf8)]

  mutating func scan(_ piece: UnsafeRawBufferPointer) {
    guard !isFound, !piece.isEmpty else { return }
    if !carry.isEmpty {
      carry += piece.prefix(KeyMarkers.overlap)
      isFound = carry.withUnsafeBytes { KeyMarkers.find($0) }
      if isFound { return }
    }
    isFound = KeyMarkers.find(piece)
    carry =
      piece.count >= KeyMarkers.overlap
      ? [UInt8](piece.suffix(KeyMarkers.overlap)) : [UInt8](carry.suffix(KeyMarkers.overlap))
    if piece.count < KeyMarkers.overlap, carry.isEmpty { carry = [UInt8](piece) }
  }

  private static func find(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let base = bytes.baseAddress else { return false }
    let end = bytes.count & ~7
    var offset = 0
    while offset + 32 <= end {
      // Four words at once: hardly ever is one of them of the kind.
      let (a, b) = (
        base.loadUnaligned(fromByteOffset: offset, as: UInt64.self),
        base.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)
      )
      let (c, d) = (
        base.loadUnaligned(fromByteOffset: offset + 16, as: UInt64.self),
        base.loadUnaligned(fromByteOffset: offset + 24, as: UInt64.self)
      )
      if others(a) == 0 || others(b) == 0 || others(c) == 0 || others(d) == 0 {
        for word in 0..<4 where isMarker(bytes, at: offset + 8 * word) { return true }
      }
      offset += 32
    }
    while offset < end {
      if isMarker(bytes, at: offset) { return true }
      offset += 8
    }
    return false
  }

  /// Zero if all eight bytes are capital letters, spaces, hyphens or a few others like them. No digit and no small letter is.
  @inline(__always)
  private static func others(_ word: UInt64) -> UInt64 {
    let shifted = word &<< 1
    let wrongRow = ((word ^ shifted) & 0x4040_4040_4040_4040) ^ 0x4040_4040_4040_4040
    return wrongRow | (word & 0x8080_8080_8080_8080) | (word & shifted & 0x2020_2020_2020_2020)
  }

  private static let words: Set<UInt64> = {
    var words: Set<UInt64> = []
    for text in ["PRIVATE KEY----", "PRIVATE KEY BLO", "PRIVATE KEY ---", "AGE-SECRET-KEY-"] {
      let bytes = [UInt8](text.utf8)
      for start in 0..<8 { words.insert(bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }) }
    }
    return words
  }()

  private static func isMarker(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
    let word = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    // A line of hyphens, an indentation.
    guard others(word) == 0, word != word &<< 8 | word &>> 56, words.contains(UInt64(littleEndian: word)) else {
      return false
    }
    let near = UnsafeRawBufferPointer(rebasing: bytes[max(0, offset - 8)..<min(bytes.count, offset + 24)])
    let start = max(0, offset - 8)
    if let found = ByteSearch.position(of: pem, in: near, from: 0), isPEM(bytes, start + found) { return true }
    return ByteSearch.position(of: age, in: near, from: 0).map { isAge(bytes, start + $0) } ?? false
  }

  /// What begins a private key: a text that names the line, or a program's constant, goes on otherwise.
  private static func isPEM(_ bytes: UnsafeRawBufferPointer, _ found: Int) -> Bool {
    let before = UnsafeRawBufferPointer(rebasing: bytes[max(0, found - 40)..<found])
    guard beginnings.contains(where: { ByteSearch.position(of: $0, in: before, from: 0) != nil }) else { return false }
    var rest = bytes[(found + pem.count)...].prefix(24)
    if rest.starts(with: " BLOCK".utf8) { rest = rest.dropFirst(6) }
    if rest.first == UInt8(ascii: " ") { rest = rest.dropFirst() }
    guard rest.starts(with: "----".utf8) else { return false }
    return rest.first { $0 != UInt8(ascii: "-") }.map { $0 != 0 } ?? false
  }

  private static func isAge(_ bytes: UnsafeRawBufferPointer, _ found: Int) -> Bool {
    var rest = bytes[(found + age.count)...].prefix(16)
    if rest.starts(with: "PQ-".utf8) { rest = rest.dropFirst(3) }
    guard rest.first == UInt8(ascii: "1") else { return false }
    let key = rest.dropFirst().prefix(4)
    return key.count == 4
      && key.allSatisfy {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0)
      }
  }
}
