import CSHA256
package import NIOCore

/// SHA-256 of two streams that grow side by side, the raw bytes and the stored ones.
///
/// A processor computes two digests at once in little more time than one. Where it has no instructions for that, the two
/// are computed one after the other by ``StreamDigest``.
package struct SHA256Pair: Sendable {
  private enum State: Sendable {
    case together(SHA256Lane, SHA256Lane)
    case apart(StreamDigest, StreamDigest)
  }

  /// Whether this processor gains by it.
  package static let isFast = dr_sha256_is_fast() == 1

  private var state: State

  package init() { self.init(together: true) }

  /// - Parameter together: False makes it work as on processors without the instructions.
  package init(together: Bool) {
    state = together && Self.isFast ? .together(SHA256Lane(), SHA256Lane()) : .apart(StreamDigest(), StreamDigest())
  }

  /// Adds the readable bytes of a buffer to either stream; they may have different lengths.
  package mutating func update(_ first: ByteBuffer, _ second: ByteBuffer) {
    switch state {
    case .together(var one, var two):
      first.withUnsafeReadableBytes { first in
        second.withUnsafeReadableBytes { second in SHA256Lane.update(&one, first, &two, second) }
      }
      state = .together(one, two)
    case .apart(var one, var two):
      one.update(first)
      two.update(second)
      state = .apart(one, two)
    }
  }

  /// As above, with the second stream's bytes in several buffers.
  package mutating func update(_ first: ByteBuffer, _ second: [ByteBuffer]) {
    var first = first
    for buffer in second {
      let length = min(first.readableBytes, buffer.readableBytes)
      update(first.readSlice(length: length) ?? ByteBuffer(), buffer)
    }
    update(first, ByteBuffer())
  }

  /// The digests of everything so far, in lower-case hexadecimal.
  package func hex() -> (String, String) {
    switch state {
    case .together(var one, var two): (StreamDigest.hex(one.finish()), StreamDigest.hex(two.finish()))
    case .apart(let one, let two): (one.hex(), two.hex())
    }
  }
}

/// One SHA-256 in progress. Source: FIPS 180-4, sections 5.1.1 (padding), 5.3.3 (the first words) and 6.2.
private struct SHA256Lane: Sendable {
  private static let block = 64

  private var words: [UInt32] = [
    0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19,
  ]
  /// Less than a block.
  private var rest: [UInt8] = []
  private var length: UInt64 = 0

  static func update(
    _ one: inout SHA256Lane, _ first: UnsafeRawBufferPointer, _ two: inout SHA256Lane, _ second: UnsafeRawBufferPointer
  ) {
    let first = one.fillBlock(first)
    let second = two.fillBlock(second)
    let common = min(first.count, second.count) / block
    if common > 0, let a = first.baseAddress, let b = second.baseAddress {
      dr_sha256_fold_two(
        &one.words, a.assumingMemoryBound(to: UInt8.self), &two.words, b.assumingMemoryBound(to: UInt8.self), common)
      one.length += UInt64(common * block)
      two.length += UInt64(common * block)
    }
    one.add(UnsafeRawBufferPointer(rebasing: first[(common * block)...]))
    two.add(UnsafeRawBufferPointer(rebasing: second[(common * block)...]))
  }

  /// Completes a block that was begun, and returns what is left.
  private mutating func fillBlock(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    guard !rest.isEmpty else { return bytes }
    let missing = min(Self.block - rest.count, bytes.count)
    add(UnsafeRawBufferPointer(rebasing: bytes[..<missing]))
    return UnsafeRawBufferPointer(rebasing: bytes[missing...])
  }

  private mutating func add(_ bytes: UnsafeRawBufferPointer) {
    length += UInt64(bytes.count)
    if rest.isEmpty {
      let whole = bytes.count / Self.block
      fold(bytes, blocks: whole)
      rest.append(contentsOf: bytes[(whole * Self.block)...])
      return
    }
    // Never more than completes the block.
    rest.append(contentsOf: bytes)
    guard rest.count == Self.block else { return }
    let full = rest
    full.withUnsafeBytes { fold($0, blocks: 1) }
    rest.removeAll(keepingCapacity: true)
  }

  private mutating func fold(_ bytes: UnsafeRawBufferPointer, blocks: Int) {
    guard blocks > 0, let start = bytes.baseAddress else { return }
    dr_sha256_fold(&words, start.assumingMemoryBound(to: UInt8.self), blocks)
  }

  mutating func finish() -> [UInt8] {
    var last = rest
    last.append(0x80)
    while last.count % Self.block != 56 { last.append(0) }
    withUnsafeBytes(of: (length * 8).bigEndian) { last.append(contentsOf: $0) }
    last.withUnsafeBytes { fold($0, blocks: last.count / Self.block) }
    return words.flatMap { word in withUnsafeBytes(of: word.bigEndian) { Array($0) } }
  }
}
