import Crypto
import DRCore
import NIOCore
import Testing

@Suite("SHA-256 of two streams at once")
struct SHA256PairTests {
  /// Of every length around the blocks and the padding, with every other.
  @Test("Any two lengths in one piece", arguments: [true, false])
  func lengths(together: Bool) {
    let lengths = Array(0...3) + Array(54...66) + [118, 119, 120, 127, 128, 129, 1000]
    for one in lengths {
      for two in lengths {
        var pair = SHA256Pair(together: together)
        let (first, second) = (bytes(one, seed: 1), bytes(two, seed: 2))
        pair.update(ByteBuffer(bytes: first), ByteBuffer(bytes: second))
        #expect([pair.hex().0, pair.hex().1] == [judge(first), judge(second)])
      }
    }
  }

  @Test("In pieces that are cut anywhere", arguments: [true, false])
  func pieces(together: Bool) {
    var random = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      var pair = SHA256Pair(together: together)
      var (first, second): ([UInt8], [UInt8]) = ([], [])
      for _ in 0..<Int.random(in: 0...12, using: &random) {
        let one = bytes(
          Int.random(in: 0...(Bool.random() ? 70 : 5000), using: &random), seed: UInt8.random(in: 0...255))
        let two = bytes(
          Int.random(in: 0...(Bool.random() ? 70 : 5000), using: &random), seed: UInt8.random(in: 0...255))
        first += one
        second += two
        // Where a buffer's bytes begin is of no account.
        var shifted = ByteBuffer(bytes: [0, 0, 0] + one)
        shifted.moveReaderIndex(forwardBy: 3)
        pair.update(shifted, ByteBuffer(bytes: two))
        // Asking changes nothing.
        #expect([pair.hex().0, pair.hex().1] == [judge(first), judge(second)])
      }
    }
  }

  @Test("With the second stream in several buffers, shorter and longer than the first", arguments: [true, false])
  func severalBuffers(together: Bool) {
    for lengths in [[], [10], [3000, 1], [100, 0, 64, 5000], [9000]] {
      var pair = SHA256Pair(together: together)
      let first = bytes(4000, seed: 5)
      let second = lengths.enumerated().map { bytes($1, seed: UInt8($0)) }
      pair.update(ByteBuffer(bytes: first), second.map { ByteBuffer(bytes: $0) })
      #expect([pair.hex().0, pair.hex().1] == [judge(first), judge(second.flatMap { $0 })])
    }
  }

  private func bytes(_ count: Int, seed: UInt8) -> [UInt8] {
    (0..<count).map { seed &+ UInt8(truncatingIfNeeded: $0 &* 131 ^ $0 >> 3) }
  }

  private func judge(_ bytes: [UInt8]) -> String {
    SHA256.hash(data: bytes).map { byte in
      let text = String(byte, radix: 16)
      return text.count == 1 ? "0" + text : text
    }.joined()
  }
}
