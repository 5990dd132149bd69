package import NIOCore

/// Decrypts a range of the plain bytes from the stored chunks that it touches. Pure: bytes in, bytes out.
///
/// Fetch ``storedRange``, give it to ``update(_:)`` in pieces of any size, then call ``finish()``: what comes out is the
/// range, exactly.
package struct AgeRangeDecryptor: Sendable {
  /// Which stored bytes to fetch; empty for an empty range (but of empty data, whose one chunk is always checked).
  package let storedRange: Range<Int64>

  private let object: String
  private var reader: AgeChunkReader
  private var toSkip: Int
  private var toGive: Int64
  private var expected: Int64

  /// - Throws: ``DRError``: `invalidConfiguration` for a range that lies outside, `truncatedData` or `malformedData` for
  ///   a size that age data cannot have.
  package init(_ payload: AgePayload, plainRange: Range<Int64>, storedSize: Int64) throws {
    let layout = try AgeLayout(payloadOffset: payload.offset, storedSize: storedSize, object: payload.object)
    let chunks = try layout.chunks(for: plainRange)
    object = payload.object
    storedRange = layout.storedRange(ofChunks: chunks)
    reader = AgeChunkReader(
      payload, first: chunks.lowerBound, endsWithLast: chunks.upperBound == layout.chunkCount)
    toSkip = Int(plainRange.lowerBound % Int64(AgePayload.chunkSize))
    toGive = plainRange.upperBound - plainRange.lowerBound
    expected = storedRange.upperBound - storedRange.lowerBound
  }

  /// Gives what belongs to the range, possibly nothing.
  ///
  /// - Throws: ``DRError``: `corruptData` naming the chunk's stored offset; `malformedData` for more bytes than
  ///   ``storedRange`` has.
  package mutating func update(_ stored: ByteBuffer) throws -> ByteBuffer {
    expected -= Int64(stored.readableBytes)
    guard expected >= 0 else {
      throw DRError(.malformedData, "more bytes came than the range \(storedRange) has", object: object)
    }
    return trim(try reader.update(stored))
  }

  /// Gives the rest of the range.
  ///
  /// - Throws: ``DRError``: `corruptData` naming the chunk's stored offset, `truncatedData` if fewer bytes came than
  ///   ``storedRange`` has.
  package mutating func finish() throws -> ByteBuffer {
    guard expected == 0 else {
      throw DRError(
        .truncatedData, "\(expected) bytes are missing of the range \(storedRange)", advice: "read it again",
        object: object)
    }
    return storedRange.isEmpty ? ByteBuffer() : trim(try reader.finish())
  }

  private mutating func trim(_ plain: ByteBuffer) -> ByteBuffer {
    var plain = plain
    let skipped = min(toSkip, plain.readableBytes)
    plain.moveReaderIndex(forwardBy: skipped)
    toSkip -= skipped
    let given = Int(min(toGive, Int64(plain.readableBytes)))
    toGive -= Int64(given)
    return plain.readSlice(length: given) ?? ByteBuffer()
  }
}
