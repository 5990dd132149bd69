import DRCore
import DRTestSupport
import NIOCore
import Testing

/// What every codec must do, whatever the sizes and the cuts.
struct CodecTests {
  static let frame = 64 << 10
  static let codecs: [Compression] = [.zstd(level: 1), .zstd(level: 9), .gzip(level: 1), .gzip(level: 6), .none]
  static let sizes = [0, 1, frame - 1, frame, frame + 1, 5 * frame + 77]

  static func encode(
    _ raw: ByteBuffer, _ compression: Compression, pieces: Int = 50_000, workers: Int = 2
  ) async throws -> (stored: ByteBuffer, summary: EncodedStream.Summary) {
    let encoding = Encoding(compression: compression, workers: workers, frameSize: frame)
    let encoded = try encoding.encode(ByteStream(TestData.pieces(of: raw, upTo: pieces)))
    let stored = try await encoded.stored.collect(limit: 1 << 30)
    return (stored, try encoded.summary())
  }

  static func decode(
    _ stored: ByteBuffer, _ format: Compression.Format, pieces: Int = 40_000, expected: EncodedStream.Summary? = nil
  ) async throws -> ByteBuffer {
    try await Decoding().decode(
      ByteStream(TestData.pieces(of: stored, upTo: pieces)), format: format, encrypted: false, expected: expected,
      object: "object"
    ).collect(limit: 1 << 30)
  }

  @Test("A number of workers that makes no sense becomes the nearest that does", arguments: [0, -3, 1_000_000])
  func senselessWorkers(count: Int) async throws {
    var encoding = Encoding()
    encoding.workers = count
    encoding.frameSize = count
    #expect((1...64).contains(encoding.workers) && (64 << 10...16 << 20).contains(encoding.frameSize))
    let raw = TestData.rows(500_000)
    let encoded = try encoding.encode(ByteStream(raw))
    let stored = try await encoded.stored.collect(limit: 1 << 30)
    var decoding = Decoding()
    decoding.workers = count
    #expect((1...64).contains(decoding.workers))
    let read = decoding.decode(
      ByteStream(stored), format: .zstd, encrypted: false, expected: try encoded.summary(), object: "object")
    #expect(try await read.collect(limit: 1 << 30) == raw)
  }

  @Test("What was encoded decodes to the same, with its digests", arguments: codecs, sizes)
  func roundTrip(compression: Compression, size: Int) async throws {
    let raw = TestData.rows(size)
    for workers in [1, 2, 5] {
      let (stored, summary) = try await Self.encode(raw, compression, workers: workers)
      #expect(summary.rawSize == Int64(size))
      #expect(summary.storedSize == Int64(stored.readableBytes))
      #expect(summary.rawSHA256 == StreamDigest.hex(raw))
      #expect(summary.storedSHA256 == StreamDigest.hex(stored))
      #expect(try await Self.decode(stored, compression.format, expected: summary) == raw)
    }
  }

  @Test(
    "Who leaves the digest of the raw bytes out still has that of the stored ones, and the sizes", arguments: codecs)
  func withoutRawDigest(compression: Compression) async throws {
    let raw = TestData.rows(3 * Self.frame + 5)
    let (stored, summary) = try await Self.encode(raw, compression)
    let other = String(repeating: "0", count: 64)
    func read(_ change: (inout EncodedStream.Summary) -> Void, digestsRaw: Bool = false) async throws -> ByteBuffer {
      var expected = summary
      change(&expected)
      return try await Decoding().decode(
        ByteStream(stored), format: compression.format, encrypted: false, expected: expected, digestsRaw: digestsRaw,
        object: "object"
      ).collect(limit: 1 << 30)
    }
    #expect(try await read { _ in } == raw)
    #expect(try await read { $0.rawSHA256 = other } == raw)
    await #expect(throws: DRError.self) { _ = try await read({ $0.rawSHA256 = other }, digestsRaw: true) }
    await #expect(throws: DRError.self) { _ = try await read { $0.storedSHA256 = other } }
    await #expect(throws: DRError.self) { _ = try await read { $0.rawSize += 1 } }
    await #expect(throws: DRError.self) { _ = try await read { $0.storedSize -= 1 } }
  }

  @Test("Both digests hold of a stream with far more stored bytes than raw ones, and each is compared")
  func farMoreStored() async throws {
    let raw = TestData.rows(3 * Self.frame + 5)
    let (frames, _) = try await Self.encode(raw, .zstd(level: 1))
    // A skippable frame, as RFC 8878, section 3.1.2, defines it: with no raw bytes at all.
    var stored = ByteBuffer()
    stored.writeInteger(0x184D_2A50 as UInt32, endianness: .little)
    stored.writeInteger(20 << 20 as UInt32, endianness: .little)
    stored.writeRepeatingByte(7, count: 20 << 20)
    stored.writeImmutableBuffer(frames)
    let summary = EncodedStream.Summary(
      rawSize: Int64(raw.readableBytes), storedSize: Int64(stored.readableBytes), rawSHA256: StreamDigest.hex(raw),
      storedSHA256: StreamDigest.hex(stored))
    #expect(try await Self.decode(stored, .zstd, pieces: 1 << 20, expected: summary) == raw)
    stored.setInteger(8 as UInt8, at: 10 << 20)
    let error = await #expect(throws: DRError.self) {
      _ = try await Self.decode(stored, .zstd, pieces: 1 << 20, expected: summary)
    }
    #expect(error?.message.contains("SHA-256 of the stored bytes") == true)
  }

  @Test("The output does not depend on how the input is cut, nor on the workers", arguments: codecs)
  func deterministic(compression: Compression) async throws {
    let raw = TestData.rows(3 * Self.frame + 5)
    let one = try await Self.encode(raw, compression, pieces: 7_000, workers: 1)
    let other = try await Self.encode(raw, compression, pieces: 300_000, workers: 4)
    #expect(one.stored == other.stored)
  }

  @Test("A stored stream that arrives byte by byte decodes", arguments: codecs)
  func byteByByte(compression: Compression) async throws {
    let raw = TestData.rows(2 * Self.frame + 99)
    let (stored, summary) = try await Self.encode(raw, compression)
    #expect(try await Self.decode(stored, compression.format, pieces: 1, expected: summary) == raw)
  }

  @Test("A stream that is cut anywhere is an error", arguments: codecs)
  func truncated(compression: Compression) async throws {
    let raw = TestData.rows(2 * Self.frame + 10)
    let (stored, summary) = try await Self.encode(raw, compression)
    var random = TestData.Random(seed: 3)
    for _ in 0..<40 {
      let length = Int.random(in: 0..<stored.readableBytes, using: &random)
      let cut = try #require(stored.getSlice(at: stored.readerIndex, length: length))
      await #expect(throws: DRError.self, "cut at \(length)") {
        _ = try await Self.decode(cut, compression.format, expected: summary)
      }
    }
  }

  @Test("A flipped bit anywhere is found, and located by frame and offset", arguments: codecs)
  func flipped(compression: Compression) async throws {
    let raw = TestData.rows(3 * Self.frame + 10)
    let (stored, summary) = try await Self.encode(raw, compression)
    var random = TestData.Random(seed: 4)
    var located = 0
    let rounds = 120
    for _ in 0..<rounds {
      let at = Int.random(in: 0..<stored.readableBytes, using: &random)
      var damaged = stored
      let byte = try #require(damaged.getInteger(at: at, as: UInt8.self))
      damaged.setInteger(byte ^ (1 << UInt8.random(in: 0...7, using: &random)), at: at)
      let error = await #expect(throws: DRError.self, "flipped at \(at)") {
        _ = try await Self.decode(damaged, compression.format, expected: summary)
      }
      #expect(error?.object == "object")
      if let error, error.message.contains("offset") { located += 1 }
    }
    // The rest are flips in what no frame holds: the seek table, and a stream without frames.
    if compression.format != .none { #expect(located > rounds * 9 / 10) }
  }

  @Test("Random bytes never crash a decoder", arguments: [Compression.Format.zstd, .gzip])
  func noise(format: Compression.Format) async throws {
    var random = TestData.Random(seed: 5)
    let (valid, _) = try await Self.encode(TestData.rows(70_000), format == .zstd ? .zstd() : .gzip())
    for round in 0..<300 {
      var bytes = round % 2 == 0 ? valid : ByteBuffer()
      for _ in 0..<Int.random(in: 1...60, using: &random) {
        if bytes.readableBytes == 0 || round % 2 == 1 {
          bytes.writeInteger(random.next())
        } else {
          bytes.setInteger(
            UInt8.random(in: 0...255, using: &random),
            at: Int.random(in: 0..<min(200, bytes.readableBytes), using: &random))
        }
      }
      _ = try? await Self.decode(bytes, format)
    }
  }

  @Test("A range reads only the frames that it touches", arguments: codecs)
  func ranges(compression: Compression) async throws {
    let raw = TestData.rows(10 * Self.frame + 321)
    let (stored, _) = try await Self.encode(raw, compression)
    var random = TestData.Random(seed: 6)
    for _ in 0..<40 {
      let start = Int.random(in: 0..<raw.readableBytes, using: &random)
      let end = min(raw.readableBytes, start + Int.random(in: 0...(2 * Self.frame), using: &random))
      let fetched = Fetched()
      let part = try await Decoding().decode(
        range: Int64(start)..<Int64(end), storedSize: Int64(stored.readableBytes), format: compression.format,
        encrypted: false, object: "object", fetch: fetched.from(stored)
      ).collect(limit: 1 << 30)
      #expect(part == raw.getSlice(at: start, length: end - start))
      let most = 4 * Self.frame + 4096
      #expect(fetched.count <= most, "\(fetched.count) bytes fetched for \(end - start)")
    }
    await #expect(throws: DRError.self) {
      _ = try await Decoding().decode(
        range: 0..<Int64(raw.readableBytes + 1), storedSize: Int64(stored.readableBytes), format: compression.format,
        encrypted: false, object: "object", fetch: Fetched().from(stored)
      ).collect(limit: 1 << 30)
    }
  }

  @Test("A reader that stops early ends its source")
  func abandoned() async throws {
    let ended = Signal()
    do {
      let watched = Watched(ended)
      let raw = ByteStream {
        _ = watched
        return TestData.rows(Self.frame)
      }
      let encoded = try Encoding(frameSize: Self.frame).encode(raw)
      var iterator = encoded.stored.makeAsyncIterator()
      _ = try await iterator.next()
    }
    await ended.wait()
  }

  @Test("What the source throws reaches the reader, and there is no summary")
  func failingSource() async throws {
    struct Broken: Error {}
    let count = Counter()
    let encoded = try Encoding(frameSize: Self.frame).encode(
      ByteStream {
        if count.next() > 3 { throw Broken() }
        return TestData.rows(Self.frame)
      })
    await #expect(throws: Broken.self) { _ = try await encoded.stored.collect(limit: 1 << 30) }
    #expect(throws: DRError.self) { try encoded.summary() }
  }
}
