import NIOCore

/// Opens consecutive chunks as their stored bytes come in.
struct AgeChunkReader: Sendable {
  private let payload: AgePayload
  private let endsWithLast: Bool
  private var next: Int64
  private var chunker = AgeChunker(size: AgePayload.storedChunkSize)

  /// - Parameters:
  ///   - first: The number of the chunk that the first byte begins.
  ///   - endsWithLast: Whether the bytes go to the end of the object.
  init(_ payload: AgePayload, first: Int64 = 0, endsWithLast: Bool = true) {
    self.payload = payload
    self.endsWithLast = endsWithLast
    next = first
  }

  /// - Throws: ``DRError``: `corruptData` naming the chunk's stored offset, `malformedData` for bytes after the end.
  mutating func update(_ stored: ByteBuffer) throws -> ByteBuffer {
    var output = ByteBuffer()
    output.reserveCapacity(chunker.count(adding: stored.readableBytes) * AgePayload.chunkSize)
    let payload = payload
    var index = next
    try chunker.update(stored) { chunk in
      guard payload.open(chunk, index: index, isLast: false, into: &output) else {
        var scratch = ByteBuffer()
        if payload.open(chunk, index: index, isLast: true, into: &scratch) {
          throw DRError(
            .malformedData,
            "there are bytes after the end of its age payload, at stored offset \(payload.storedOffset(ofChunk: index + 1))",
            advice: "restore from another copy", object: payload.object)
        }
        throw payload.corrupt(chunk: index)
      }
      index += 1
    }
    next = index
    return output
  }

  /// Opens what was held back.
  ///
  /// - Throws: ``DRError``: `truncatedData` when bytes are missing for certain, `corruptData` for a chunk that is cut off
  ///   within or was changed (which of the two, its tag cannot tell), `malformedData` for a last chunk that holds nothing.
  mutating func finish() throws -> ByteBuffer {
    var output = ByteBuffer()
    let payload = payload
    let index = next
    let endsWithLast = endsWithLast
    try chunker.rest.withUnsafeReadableBytes { chunk in
      guard chunk.count >= AgePayload.tagSize else { throw truncated }
      if payload.open(chunk, index: index, isLast: endsWithLast, into: &output) { return }
      var scratch = ByteBuffer()
      if endsWithLast, payload.open(chunk, index: index, isLast: false, into: &scratch) { throw truncated }
      throw payload.corrupt(
        chunk: index, chunk.count < AgePayload.storedChunkSize ? ": it was changed, or is cut off" : "")
    }
    guard output.readableBytes > 0 || index == 0 else {
      throw DRError(
        .malformedData, "its age payload ends in an empty chunk, which the format forbids", object: payload.object)
    }
    return output
  }

  private var truncated: DRError {
    DRError(
      .truncatedData, "it is cut off: its age payload ends without its last chunk",
      advice: "restore from another copy", object: payload.object)
  }
}
