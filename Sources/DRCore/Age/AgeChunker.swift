import NIOCore

/// Cuts pushed bytes into chunks of one size. A chunk is given once a byte beyond it has come: so that what is left at
/// the end is the last one, whole or not.
struct AgeChunker: Sendable {
  private let size: Int
  /// Up to one chunk.
  private(set) var rest = ByteBuffer()

  init(size: Int) { self.size = size }

  /// How many chunks the next ``update(_:_:)`` with so many bytes will give.
  func count(adding bytes: Int) -> Int { max(0, rest.readableBytes + bytes - 1) / size }

  /// Gives chunks where they lie in the input; only one that reaches across the boundary of two inputs is copied.
  mutating func update(_ input: ByteBuffer, _ give: (UnsafeRawBufferPointer) throws -> Void) rethrows {
    try input.withUnsafeReadableBytes { bytes in
      var next = 0
      if rest.readableBytes > 0 {
        next = min(size - rest.readableBytes, bytes.count)
        rest.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[..<next]))
        guard next < bytes.count else { return }
        try rest.withUnsafeReadableBytes(give)
        rest.clear()
      }
      while bytes.count - next > size {
        try give(UnsafeRawBufferPointer(rebasing: bytes[next..<next + size]))
        next += size
      }
      rest.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[next...]))
    }
  }
}
