package import NIOCore

/// Decrypts a stream of the age v1 format, ours or made by `age`. Pure: bytes in, bytes out.
///
/// Every byte that it gives is authenticated, but only ``finish()`` proves that nothing is missing at the end: what was
/// given before is not to be trusted as whole until then.
package struct AgeDecryptor: Sendable {
  private enum State {
    case header(AgeHeaderReader)
    case payload(AgeChunkReader)
    case ended
    case failed(DRError)
  }

  private var state: State

  /// - Parameter object: Named in errors.
  package init(identities: [AgeIdentity], object: String) {
    state = .header(AgeHeaderReader(identities: identities, object: object))
  }

  /// Decrypts. Gives the chunks that are complete, possibly none; holds back at most one chunk.
  ///
  /// With a passphrase, the call that completes the header blocks its thread for as long as scrypt takes, about a second
  /// at the usual work factor: call it on an executor of your own.
  ///
  /// - Throws: ``DRError``: `malformedData`, `unsupportedVersion`, `noMatchingIdentity` naming the types of recipients
  ///   found, `corruptData` naming the stored offset of the chunk, `invalidConfiguration` (a work factor above the
  ///   identity's maximum, or called after ``finish()``). Once it threw, it throws the same again.
  package mutating func update(_ stored: ByteBuffer) throws -> ByteBuffer {
    try guarded { state in
      var stored = stored
      // In both steps moved out and back, so that what is held has one owner and is not copied.
      if case .header(var reader) = state {
        state = .ended
        let payload = try reader.update(&stored)
        state = payload.map { .payload(AgeChunkReader($0)) } ?? .header(reader)
      }
      guard case .payload(var chunks) = state else { return ByteBuffer() }
      state = .ended
      let plain = try chunks.update(stored)
      state = .payload(chunks)
      return plain
    }
  }

  /// Gives the last chunk, and proves the end.
  ///
  /// - Throws: ``DRError``: `truncatedData`, `corruptData` naming the stored offset of the chunk, `malformedData`,
  ///   `invalidConfiguration` when called twice.
  package mutating func finish() throws -> ByteBuffer {
    try guarded { state in
      switch state {
      case .header(let reader): throw reader.truncated
      case .payload(var chunks):
        state = .ended
        return try chunks.finish()
      case .ended, .failed: return ByteBuffer()
      }
    }
  }

  private mutating func guarded(_ step: (inout State) throws -> ByteBuffer) throws -> ByteBuffer {
    switch state {
    case .failed(let error): throw error
    case .ended: throw DRError(.invalidConfiguration, "decryption is update, then finish once")
    case .header, .payload: break
    }
    do {
      return try step(&state)
    } catch let error as DRError {
      state = .failed(error)
      throw error
    }
  }
}
