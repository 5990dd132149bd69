/// Where plain bytes lie in the stored ones: arithmetic on the object's size, for reading a range.
///
/// That the size is the true one is proved when the last chunk opens: whoever goes by the end of the plain bytes (a table
/// that lies there) has read that chunk.
package struct AgeLayout: Hashable, Sendable {
  /// Where the first chunk lies.
  package let payloadOffset: Int64
  /// Bytes of the whole object.
  package let storedSize: Int64
  /// At least 1.
  package let chunkCount: Int64
  /// Bytes once decrypted.
  package let plainSize: Int64

  /// - Parameter object: Named in errors.
  /// - Throws: ``DRError``: `truncatedData` or `malformedData` for a size that age data cannot have.
  package init(payloadOffset: Int64, storedSize: Int64, object: String) throws {
    let (size, overflow) = storedSize.subtractingReportingOverflow(payloadOffset)
    let tag = Int64(AgePayload.tagSize)
    let chunk = Int64(AgePayload.storedChunkSize)
    guard payloadOffset >= 0, !overflow, size >= tag else {
      throw DRError(.truncatedData, "it is cut off: its age payload has no chunk", object: object)
    }
    let whole = (size - 1) / chunk
    let last = size - whole * chunk
    guard last >= tag else {
      throw DRError(.truncatedData, "it is cut off within a chunk of its age payload", object: object)
    }
    guard last > tag || whole == 0 else {
      throw DRError(
        .malformedData, "its age payload ends in an empty chunk, which the format forbids", object: object)
    }
    self.payloadOffset = payloadOffset
    self.storedSize = storedSize
    chunkCount = whole + 1
    plainSize = size - chunkCount * tag
  }

  /// The chunks that a range of plain bytes touches. Of empty data it is always the one chunk, so that a size cut down to
  /// that of empty data is noticed too.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for a range that lies outside.
  package func chunks(for plain: Range<Int64>) throws -> Range<Int64> {
    guard plain.lowerBound >= 0, plain.upperBound <= plainSize else {
      throw DRError(
        .invalidConfiguration, "the range \(plain.lowerBound)..<\(plain.upperBound) lies outside the \(plainSize) bytes"
      )
    }
    if plainSize == 0 { return 0..<1 }
    let size = Int64(AgePayload.chunkSize)
    let first = plain.lowerBound / size
    return plain.isEmpty ? first..<first : first..<((plain.upperBound - 1) / size + 1)
  }

  /// The stored bytes of consecutive chunks, which must be among the object's.
  package func storedRange(ofChunks chunks: Range<Int64>) -> Range<Int64> {
    func offset(_ index: Int64) -> Int64 {
      let index = min(max(index, 0), chunkCount)
      return index == chunkCount ? storedSize : payloadOffset + index * Int64(AgePayload.storedChunkSize)
    }
    return offset(chunks.lowerBound)..<offset(chunks.upperBound)
  }
}
