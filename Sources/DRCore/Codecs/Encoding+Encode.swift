import NIOCore

extension Encoding {
  /// Encodes a stream. Reads ahead as many frames as keep the workers busy: memory is bounded by the frame size times
  /// a few for each worker.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for recipients that do not go together.
  public func encode(_ raw: ByteStream) throws -> EncodedStream {
    let outcome = MutableBox<EncodedStream.Summary?>(nil)
    let encoder = try StreamEncoder(encoding: self, raw: raw, outcome: outcome)
    return EncodedStream(stored: ByteStream { try await encoder.next() }, outcome: outcome)
  }
}

/// The writing side: takes compressed frames in order, digests, encrypts, and ends the stream.
///
/// `@unchecked Sendable`: a ``ByteStream`` pulls from one consumer, and calls never overlap.
private final class StreamEncoder: @unchecked Sendable {
  private enum Phase {
    case start
    case frames
    case ended
  }

  private let workers: OrderedWorkers<ByteBuffer, any FrameCompressor, CompressedFrame>
  private let format: Compression.Format
  private let emptyFrame: ByteBuffer
  private let pool: BufferPool?
  private let outcome: MutableBox<EncodedStream.Summary?>
  private var phase = Phase.start
  private var encryptor: AgeEncryptor?
  private var table = ZstdSeekTable()
  /// Raw and stored.
  private var digests = SHA256Pair()
  private var rawSize: Int64 = 0
  private var storedSize: Int64 = 0

  init(
    encoding: Encoding, raw: ByteStream, outcome: MutableBox<EncodedStream.Summary?>
  ) throws {
    format = encoding.compression.format
    pool = raw.recycler
    self.outcome = outcome
    if !encoding.recipients.isEmpty { encryptor = try AgeEncryptor(recipients: encoding.recipients) }
    let frameSize = encoding.frameSize
    let compressors = try (0..<encoding.workers).map { _ in
      try encoding.compression.makeCompressor(frameSize: frameSize)
    }
    // An empty stream is one empty frame, so that stock tools see a file of their format.
    emptyFrame = format == .none ? ByteBuffer() : try compressors[0].compress(ByteBuffer())
    let source = FrameSource(raw, frameSize: frameSize)
    workers = OrderedWorkers(
      contexts: compressors, source: { try await source.next() },
      transform: { CompressedFrame(raw: $0, stored: try $1.compress($0)) })
  }

  func next() async throws -> ByteBuffer? {
    while true {
      switch phase {
      case .start:
        phase = .frames
        if let header = try encryptor?.start() { return store(header, raw: ByteBuffer()) }
      case .frames:
        guard var frame = try await workers.next() else {
          phase = .ended
          let last = try end()
          return last.readableBytes > 0 ? last : nil
        }
        if format == .zstd { table.append(stored: frame.stored.readableBytes, raw: frame.raw.readableBytes) }
        let stored = store(try encrypt(frame.stored), raw: frame.raw)
        pool?.give(back: &frame.raw)
        if stored.readableBytes > 0 { return stored }
      case .ended:
        return nil
      }
    }
  }

  private func end() throws -> ByteBuffer {
    var tail = ByteBuffer()
    if rawSize == 0 {
      tail.writeImmutableBuffer(emptyFrame)
      if format == .zstd { table.append(stored: emptyFrame.readableBytes, raw: 0) }
    }
    if format == .zstd { tail.writeImmutableBuffer(try table.encoded()) }
    tail = try encrypt(tail)
    if var rest = try encryptor?.finish() { tail.writeBuffer(&rest) }
    let last = store(tail, raw: ByteBuffer())
    let (raw, stored) = digests.hex()
    outcome.withLock {
      $0 = EncodedStream.Summary(rawSize: rawSize, storedSize: storedSize, rawSHA256: raw, storedSHA256: stored)
    }
    return last
  }

  private func encrypt(_ buffer: ByteBuffer) throws -> ByteBuffer {
    guard encryptor != nil else { return buffer }
    return try encryptor?.update(buffer) ?? buffer
  }

  /// Counts what is stored, and the raw bytes that it was made of.
  private func store(_ stored: ByteBuffer, raw: ByteBuffer) -> ByteBuffer {
    digests.update(raw, stored)
    rawSize += Int64(raw.readableBytes)
    storedSize += Int64(stored.readableBytes)
    return stored
  }
}

/// Cuts the raw stream into frames for the workers' pump.
///
/// `@unchecked Sendable`: the pump is its only caller, and calls never overlap.
private final class FrameSource: @unchecked Sendable {
  private var iterator: ByteStream.AsyncIterator
  private var assembler: FrameAssembler

  init(_ raw: ByteStream, frameSize: Int) {
    iterator = raw.makeAsyncIterator()
    assembler = FrameAssembler(frameSize: frameSize)
  }

  func next() async throws -> ByteBuffer? {
    var assembler = assembler
    var iterator = iterator
    defer {
      self.assembler = assembler
      self.iterator = iterator
    }
    return try await assembler.next(from: &iterator)
  }
}
