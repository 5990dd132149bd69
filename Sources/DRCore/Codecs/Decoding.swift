import NIOCore

/// How stored bytes become raw bytes again: decrypted, then decompressed, frames in parallel.
public struct Decoding: Sendable {
  /// What opens encrypted bytes.
  public var identities: [AgeIdentity]
  /// How many frames are decompressed at the same time, 1 to 64; what lies outside becomes the nearest of them.
  public var workers: Int { didSet { workers = WorkerCount.clamped(workers) } }

  public init(identities: [AgeIdentity] = [], workers: Int = 2) {
    self.identities = identities
    self.workers = WorkerCount.clamped(workers)
  }

  /// Decodes a whole stored stream, ours or made by a stock tool.
  ///
  /// The stream throws ``DRError`` (`corruptData`, `truncatedData`, `malformedData`, `noMatchingIdentity`) naming the
  /// object, and the frame and its offset where damage can be located. Of bytes that are not compressed and not
  /// encrypted only the digest tells, at the end.
  ///
  /// - Parameters:
  ///   - expected: Sizes and digests to check; a difference is thrown at the end of the stream.
  ///   - object: Named in errors.
  public func decode(
    _ stored: ByteStream, format: Compression.Format, encrypted: Bool, expected: EncodedStream.Summary? = nil,
    object: String
  ) -> ByteStream {
    decode(stored, format: format, encrypted: encrypted, expected: expected, digestsRaw: true, object: object)
  }

  /// As above.
  ///
  /// - Parameter digestsRaw: False leaves the digest of the raw bytes out; of those only the number is compared.
  package func decode(
    _ stored: ByteStream, format: Compression.Format, encrypted: Bool, expected: EncodedStream.Summary?,
    digestsRaw: Bool, object: String
  ) -> ByteStream {
    decode(
      stored, format: format, encrypted: encrypted, expected: expected, digestsRaw: digestsRaw, object: object,
      origin: FrameOrigin())
  }

  /// As above, for a stream that starts at a later frame: errors name the frame and its offset in the whole.
  func decode(
    _ stored: ByteStream, format: Compression.Format, encrypted: Bool, expected: EncodedStream.Summary?,
    digestsRaw: Bool = true, object: String, origin: FrameOrigin
  ) -> ByteStream {
    let decoding = self
    let decoder = MutableBox<StreamDecoder?>(nil)
    return ByteStream {
      let current = try decoder.withLock { slot -> StreamDecoder in
        if let started = slot { return started }
        let started = try StreamDecoder(
          decoding, stored, format: format, encrypted: encrypted, expected: expected, digestsRaw: digestsRaw,
          object: object, origin: origin)
        slot = started
        return started
      }
      return try await current.next()
    }
  }
}

/// The reading side.
///
/// `@unchecked Sendable`: a ``ByteStream`` pulls from one consumer, and calls never overlap.
private final class StreamDecoder: @unchecked Sendable {
  private let workers: OrderedWorkers<SplitPiece, any FrameDecoder, ByteBuffer>
  private let pair: DecodingCheck?
  private var check: StreamCheck?

  init(
    _ decoding: Decoding, _ stored: ByteStream, format: Compression.Format, encrypted: Bool,
    expected: EncodedStream.Summary?, digestsRaw: Bool, object: String, origin: FrameOrigin
  ) throws {
    pair = digestsRaw && SHA256Pair.isFast ? expected.map { DecodingCheck($0, object: object) } : nil
    let single = pair == nil ? expected : nil
    let source = PieceSource(
      stored, splitter: format.makeSplitter(object: object, origin: origin),
      decryptor: encrypted ? AgeDecryptor(identities: decoding.identities, object: object) : nil,
      pair: pair,
      check: single.map {
        StreamCheck("stored", size: $0.storedSize, sha256: $0.storedSHA256, object: object)
      })
    check = single.map {
      StreamCheck("raw", size: $0.rawSize, sha256: digestsRaw ? $0.rawSHA256 : nil, object: object)
    }
    let decoders = try (0..<decoding.workers).map { _ in try format.makeDecoder() }
    workers = OrderedWorkers(
      contexts: decoders, source: { try await source.next() },
      transform: { piece, decoder in
        switch piece {
        case .raw(let raw): return raw
        case .frame(let frame, let rawSize, let index, let offset):
          do throws(FrameDamage) {
            return try decoder.decode(frame, rawSize: rawSize)
          } catch {
            throw DRError.damagedFrame(index, offset: offset, error.reason, object: object)
          }
        }
      })
  }

  func next() async throws -> ByteBuffer? {
    while let raw = try await workers.next() {
      guard raw.readableBytes > 0 else { continue }
      check?.add(raw)
      // At once: a small object can hold more than a disk does.
      try check?.refuseExcess()
      try pair?.addRaw(raw)
      return raw
    }
    try check?.finish()
    try pair?.finish()
    return nil
  }
}

/// Reads the stored bytes, digests and decrypts them, and cuts them into pieces for the workers.
///
/// `@unchecked Sendable`: the workers' pump is its only caller, and calls never overlap.
private final class PieceSource: @unchecked Sendable {
  private var stored: ByteStream.AsyncIterator
  private var splitter: any FrameSplitter
  private var decryptor: AgeDecryptor?
  private let pair: DecodingCheck?
  private var check: StreamCheck?
  private var ended = false

  init(
    _ stored: ByteStream, splitter: any FrameSplitter, decryptor: AgeDecryptor?, pair: DecodingCheck?,
    check: StreamCheck?
  ) {
    self.stored = stored.makeAsyncIterator()
    self.splitter = splitter
    self.decryptor = decryptor
    self.pair = pair
    self.check = check
  }

  func next() async throws -> SplitPiece? {
    while true {
      if let piece = try splitter.next(atEnd: ended) { return piece }
      // What is wrong inside says more than a digest that differs: so the splitter speaks first, the digest last.
      if ended {
        try check?.finish()
        check = nil
        return nil
      }
      var iterator = stored
      let buffer = try await iterator.next()
      stored = iterator
      if let buffer {
        check?.add(buffer)
        pair?.addStored(buffer)
        if let plain = try decryptor?.update(buffer) {
          splitter.feed(plain)
        } else {
          splitter.feed(buffer)
        }
      } else {
        ended = true
        if let rest = try decryptor?.finish(), rest.readableBytes > 0 { splitter.feed(rest) }
      }
    }
  }
}
