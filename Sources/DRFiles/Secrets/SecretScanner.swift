import Foundation

/// Looks for private keys in the content of a file, piece by piece.
///
/// PEM of every kind (PKCS#1, PKCS#8, SEC 1, OpenSSH, PGP), age identities, PuTTY keys.
struct SecretScanner {
  /// How much of a file is looked at where nothing depends on it but its mode.
  static let headSize = 1 << 20

  private(set) var isSecret = false
  private var carry: [UInt8] = []

  /// Longer than anything that is looked for, with what must stand before it.
  private static let overlap = 96
  private static let markers: [[UInt8]] = [
    [UInt8]("PRIVATE KEY".utf8), [UInt8]("AGE-SECRET-KEY-".utf8), [UInt8]("PuTTY-User-Key-File-".utf8),
  ]

  mutating func scan(_ piece: UnsafeRawBufferPointer) {
    guard !isSecret, !piece.isEmpty else { return }
    if !carry.isEmpty {
      carry += piece.prefix(SecretScanner.overlap)
      isSecret = carry.withUnsafeBytes { SecretScanner.find($0) }
      if isSecret { return }
    }
    isSecret = SecretScanner.find(piece)
    carry = (carry + piece.suffix(SecretScanner.overlap)).suffix(SecretScanner.overlap)
  }

  /// Looks at a piece as far as it belongs to the head of its file. Returns how much of the head has been looked at.
  mutating func scan(_ piece: UnsafeRawBufferPointer, head scanned: Int) -> Int {
    guard scanned < SecretScanner.headSize else { return scanned }
    let part = UnsafeRawBufferPointer(rebasing: piece.prefix(SecretScanner.headSize - scanned))
    scan(part)
    return scanned + part.count
  }

  private static func find(_ bytes: UnsafeRawBufferPointer) -> Bool {
    for (number, marker) in markers.enumerated() {
      var start = 0
      while let found = position(of: marker, in: bytes, from: start) {
        if number > 0 { return true }
        let before = UnsafeRawBufferPointer(rebasing: bytes[max(0, found - 40)..<found])
        if position(of: beginning, in: before, from: 0) != nil { return true }
        start = found + marker.count
      }
    }
    return false
  }

  private static let beginning = [UInt8]("-----BEGIN ".utf8)

  #if !canImport(Darwin)
    private typealias Find =
      @convention(c) (UnsafeRawPointer, Int, UnsafeRawPointer, Int) -> UnsafeMutableRawPointer?
    // The C library has it, but shows it only to C.
    private static let memmem = dlsym(nil, "memmem").map { unsafeBitCast($0, to: Find.self) }
  #endif

  static func position(of text: [UInt8], in bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let base = bytes.baseAddress, bytes.count - start >= text.count else { return nil }
    return text.withUnsafeBytes { needle -> Int? in
      guard let wanted = needle.baseAddress else { return nil }
      #if canImport(Darwin)
        let found = memmem(base + start, bytes.count - start, wanted, needle.count)
      #else
        guard let memmem else { return naive(bytes, needle, from: start) }
        let found = memmem(base + start, bytes.count - start, wanted, needle.count)
      #endif
      return found.map { UnsafeRawPointer($0) - base }
    }
  }

  private static func naive(_ bytes: UnsafeRawBufferPointer, _ text: UnsafeRawBufferPointer, from start: Int) -> Int? {
    (start...bytes.count - text.count).first { bytes[$0..<$0 + text.count].elementsEqual(text) }
  }
}
