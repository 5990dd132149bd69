import DRCore
import DRStorage
import NIOCore
import Testing

@Suite struct InMemoryTierTests {
  @Test("What is read out of memory is what was put, and it ends", arguments: [0, 1, 1 << 20, (5 << 20) + 3])
  func ends(size: Int) async throws {
    let tier = InMemoryTier()
    let key = try ObjectKey("a/b")
    let content = ByteBuffer(bytes: (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) })
    _ = try await tier.put(key, ByteStream(content), PutOptions())
    let whole = try await pieces(tier.get(key, range: nil))
    #expect(whole.readableBytesView.elementsEqual(content.readableBytesView))
    let half = Int64(size / 2)
    let rest = try await pieces(tier.get(key, range: half..<Int64(size)))
    #expect(rest.readableBytes == size - size / 2)
  }

  private func pieces(_ stream: ByteStream) async throws -> ByteBuffer { try await stream.collect(limit: 64 << 20) }
}
