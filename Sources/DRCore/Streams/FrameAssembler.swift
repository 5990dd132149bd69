package import NIOCore

/// Cuts a stream of buffers of any size into frames of exactly one size; the last may be shorter.
///
/// A buffer that is a frame already passes through without a copy.
package struct FrameAssembler {
  package let frameSize: Int
  private var ready: ByteBuffer?
  private var partial = ByteBuffer()
  private var sourceEnded = false

  package init(frameSize: Int) { self.frameSize = frameSize }

  /// The next whole frame, pulling from the source, or the rest at the end, or nil.
  package mutating func next(from source: inout ByteStream.AsyncIterator) async throws -> ByteBuffer? {
    while true {
      if var buffer = ready {
        ready = nil
        if partial.readableBytes == 0 {
          if buffer.readableBytes == frameSize { return buffer }
          if buffer.readableBytes > frameSize, let frame = buffer.readSlice(length: frameSize) {
            ready = buffer
            return frame
          }
          partial = ByteBufferAllocator().buffer(capacity: frameSize)
        }
        let missing = frameSize - partial.readableBytes
        if buffer.readableBytes > missing, var piece = buffer.readSlice(length: missing) {
          partial.writeBuffer(&piece)
          ready = buffer
        } else {
          partial.writeBuffer(&buffer)
        }
        if partial.readableBytes == frameSize {
          let frame = partial
          partial = ByteBuffer()
          return frame
        }
      }
      if ready == nil {
        // A source that has ended is not asked again: it may not answer twice.
        guard !sourceEnded, let buffer = try await source.next() else {
          sourceEnded = true
          guard partial.readableBytes > 0 else { return nil }
          let rest = partial
          partial = ByteBuffer()
          return rest
        }
        ready = buffer
      }
    }
  }
}
