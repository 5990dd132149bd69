import Foundation

/// Finds a text in bytes.
enum ByteSearch {
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
