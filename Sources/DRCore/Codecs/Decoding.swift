/// How stored bytes become raw bytes again: decrypted, then decompressed, frames in parallel.
public struct Decoding: Sendable {
  /// What opens encrypted bytes.
  public var identities: [AgeIdentity]
  /// How many frames are decompressed at the same time, from 1.
  public var workers: Int

  public init(identities: [AgeIdentity] = [], workers: Int = 2) {
    self.identities = identities
    self.workers = max(1, workers)
  }

  /// Decodes a whole stored stream, ours or made by a stock tool.
  ///
  /// - Parameters:
  ///   - expected: Sizes and digests to check; a difference is thrown at the end of the stream.
  ///   - object: Named in errors, with the frame and the offset.
  public func decode(
    _ stored: ByteStream, format: Compression.Format, encrypted: Bool, expected: EncodedStream.Summary? = nil,
    object: String
  ) -> ByteStream {
    ByteStream { throw DRError(.invalidConfiguration, "not built") }
  }

  /// Decodes a range of the raw bytes, reading only the frames that it touches.
  ///
  /// - Parameters:
  ///   - storedSize: The size of the stored object in bytes.
  ///   - rawRange: Which raw bytes.
  ///   - fetch: Gives a range of the stored bytes.
  /// - Throws: ``DRError``: `corruptData`, `malformedData`, `noMatchingIdentity`, `invalidConfiguration` for a range
  ///   that lies outside.
  public func decode(
    range rawRange: Range<Int64>, storedSize: Int64, format: Compression.Format, encrypted: Bool, object: String,
    fetch: @escaping @Sendable (Range<Int64>) async throws -> ByteStream
  ) async throws -> ByteStream {
    throw DRError(.invalidConfiguration, "not built")
  }
}
