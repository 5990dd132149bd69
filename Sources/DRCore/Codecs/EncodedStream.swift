/// Raw bytes on their way into a tier.
///
/// ``stored`` is what the tier pulls; once it has ended, ``summary()`` gives sizes and digests.
public struct EncodedStream: Sendable {
  /// Sizes and digests of a whole stream.
  public struct Summary: Hashable, Sendable {
    /// Bytes before compression and encryption, and after.
    public var rawSize: Int64
    public var storedSize: Int64
    /// SHA-256 in lower-case hexadecimal.
    public var rawSHA256: String
    public var storedSHA256: String

    package init(rawSize: Int64, storedSize: Int64, rawSHA256: String, storedSHA256: String) {
      self.rawSize = rawSize
      self.storedSize = storedSize
      self.rawSHA256 = rawSHA256
      self.storedSHA256 = storedSHA256
    }
  }

  /// The compressed and encrypted bytes.
  public let stored: ByteStream
  let outcome: MutableBox<Summary?>

  /// Sizes and digests, once ``stored`` has been read to its end.
  ///
  /// - Throws: ``DRError`` with `truncatedData` before that.
  public func summary() throws -> Summary {
    guard let summary = outcome.value else {
      throw DRError(.truncatedData, "the stream was not read to its end, so it has no digest")
    }
    return summary
  }
}
