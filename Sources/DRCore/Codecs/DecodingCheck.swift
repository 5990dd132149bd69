import NIOCore

/// Compares both sides of a decoding, the stored bytes and the raw ones, with what a manifest states.
///
/// Their digests are computed together (``SHA256Pair``): stored bytes wait until raw ones pass, up to a limit.
final class DecodingCheck: Sendable {
  private struct State {
    var digests = SHA256Pair()
    /// Stored bytes that are not digested yet.
    var waiting: [ByteBuffer] = []
    var waitingBytes = 0
    /// The digests are with the one who computes them.
    var isDigesting = false
    var stored: StreamCheck
    var raw: StreamCheck

    mutating func takeWaiting() -> [ByteBuffer] {
      defer { (waiting, waitingBytes) = ([], 0) }
      return waiting
    }
  }

  /// Of a stream whose raw bytes are far larger, or come far later, than what they are made of.
  private static let limit = 8 << 20

  private let state: MutableBox<State>

  init(_ expected: EncodedStream.Summary, object: String) {
    state = MutableBox(
      State(
        stored: StreamCheck("stored", size: expected.storedSize, sha256: expected.storedSHA256, object: object),
        raw: StreamCheck("raw", size: expected.rawSize, sha256: expected.rawSHA256, object: object)))
  }

  /// Takes note of stored bytes. Called by one task.
  func addStored(_ buffer: ByteBuffer) {
    state.withLock { state in
      state.stored.count(buffer)
      state.waiting.append(buffer)
      state.waitingBytes += buffer.readableBytes
      guard state.waitingBytes > Self.limit, !state.isDigesting else { return }
      for buffer in state.takeWaiting() { state.digests.update(ByteBuffer(), buffer) }
    }
  }

  /// Takes note of raw bytes, and digests them with the stored ones that wait. Called by one task.
  ///
  /// - Throws: ``DRError`` with `corruptData` if there are more than stated.
  func addRaw(_ buffer: ByteBuffer) throws {
    let (before, waiting) = try state.withLock { state in
      state.raw.count(buffer)
      // At once: a small object can hold more than a disk does.
      try state.raw.refuseExcess()
      state.isDigesting = true
      return (state.digests, state.takeWaiting())
    }
    var digests = before
    digests.update(buffer, waiting)
    let done = digests
    state.withLock { state in
      state.digests = done
      state.isDigesting = false
    }
  }

  /// - Throws: ``DRError``: `truncatedData`, `corruptData`; of the stored bytes first.
  func finish() throws {
    try state.withLock { state in
      for buffer in state.takeWaiting() { state.digests.update(ByteBuffer(), buffer) }
      let (raw, stored) = state.digests.hex()
      try state.stored.finish(sha256: stored)
      try state.raw.finish(sha256: raw)
    }
  }
}
