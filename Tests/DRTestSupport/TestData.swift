public import NIOCore

/// Data that looks like rows and comes out the same on every run.
public enum TestData {
  /// A small generator with a fixed seed (SplitMix64).
  public struct Random: RandomNumberGenerator, Sendable {
    private var state: UInt64
    public init(seed: UInt64) { state = seed }
    public mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
  }

  /// So many bytes of text rows with random parts.
  public static func rows(_ count: Int, seed: UInt64 = 1) -> ByteBuffer {
    var random = Random(seed: seed)
    var buffer = ByteBufferAllocator().buffer(capacity: count + 128)
    var number = 0
    while buffer.readableBytes < count {
      number += 1
      buffer.writeString(
        "\(number)\tagent-\(number % 977)\t{\"trace\": \"\(String(random.next(), radix: 16))\", \"status\": \"ok\"}\tlorem ipsum\n"
      )
    }
    return buffer.readSlice(length: count) ?? ByteBuffer()
  }

  /// A buffer cut into pieces of random sizes.
  public static func pieces(of buffer: ByteBuffer, upTo most: Int, seed: UInt64 = 2) -> [ByteBuffer] {
    var random = Random(seed: seed)
    var rest = buffer
    var pieces: [ByteBuffer] = []
    while rest.readableBytes > 0 {
      let size = min(Int.random(in: 1...most, using: &random), rest.readableBytes)
      if let piece = rest.readSlice(length: size) { pieces.append(piece) }
    }
    return pieces
  }
}
