import DRCore
import DRTestSupport
import NIOCore
import Testing

/// Compression and encryption together.
struct EncryptedCodecTests {
  static let frame = 64 << 10

  static func encode(
    _ raw: ByteBuffer, _ compression: Compression, for recipients: [AgeRecipient]
  ) async throws -> (ByteBuffer, EncodedStream.Summary) {
    let encoding = Encoding(compression: compression, recipients: recipients, frameSize: frame)
    let encoded = try encoding.encode(ByteStream(TestData.pieces(of: raw, upTo: 100_000)))
    return (try await encoded.stored.collect(limit: 1 << 30), try encoded.summary())
  }

  @Test("Any of several recipients opens it, nobody else", arguments: [Compression.zstd(), .gzip(), .none])
  func recipients(compression: Compression) async throws {
    let (one, two, stranger) = (AgeIdentity.generate(), AgeIdentity.generate(), AgeIdentity.generate())
    let recipients = try [#require(one.recipient), #require(two.recipient)]
    for size in [0, 1, Self.frame, 5 * Self.frame + 11] {
      let raw = TestData.rows(size)
      let (stored, summary) = try await Self.encode(raw, compression, for: recipients)
      #expect(summary.storedSHA256 == StreamDigest.hex(stored))
      for identity in [one, two] {
        let back = try await Decoding(identities: [identity]).decode(
          ByteStream(TestData.pieces(of: stored, upTo: 30_000)), format: compression.format, encrypted: true,
          expected: summary, object: "object"
        ).collect(limit: 1 << 30)
        #expect(back == raw)
      }
      let error = await #expect(throws: DRError.self) {
        _ = try await Decoding(identities: [stranger]).decode(
          ByteStream(stored), format: compression.format, encrypted: true, expected: summary, object: "object"
        ).collect(limit: 1 << 30)
      }
      #expect(error?.code == .noMatchingIdentity)
    }
  }

  @Test("The stock tools open it: age -d | zstd -d, gzip -d", arguments: [Compression.zstd(), .gzip(), .none])
  func stockTools(compression: Compression) async throws {
    try await withTemporaryFolder { folder in
      let identity = AgeIdentity.generate()
      let raw = TestData.rows(3 * Self.frame + 11)
      let (stored, summary) = try await Self.encode(raw, compression, for: [#require(identity.recipient)])
      try StockToolTests.write(stored, to: folder + "/ours")
      try StockToolTests.write(ByteBuffer(string: #require(identity.secretText()) + "\n"), to: folder + "/key")
      let tool = [Compression.Format.zstd: "zstd -d", .gzip: "gzip -d", .none: "cat"][compression.format] ?? ""
      let sum = try await StockToolTests.shell("age -d -i key ours | \(tool) | sha256sum", in: folder)
      #expect(sum.hasPrefix(summary.rawSHA256))
      #expect(try await StockToolTests.shell("sha256sum < ours", in: folder).hasPrefix(summary.storedSHA256))
    }
  }

  @Test("A range opens only the chunks and frames that it touches", arguments: [Compression.zstd(), .gzip(), .none])
  func ranges(compression: Compression) async throws {
    let identity = AgeIdentity.generate()
    let raw = TestData.rows(12 * Self.frame + 321)
    let (stored, _) = try await Self.encode(raw, compression, for: [#require(identity.recipient)])
    var random = TestData.Random(seed: 8)
    for _ in 0..<30 {
      let start = Int.random(in: 0..<raw.readableBytes, using: &random)
      let end = min(raw.readableBytes, start + Int.random(in: 0...Self.frame, using: &random))
      let part = try await Decoding(identities: [identity]).decode(
        range: Int64(start)..<Int64(end), storedSize: Int64(stored.readableBytes), format: compression.format,
        encrypted: true, object: "object", fetch: Fetched().from(stored)
      ).collect(limit: 1 << 30)
      #expect(part == raw.getSlice(at: start, length: end - start))
    }
  }
}
