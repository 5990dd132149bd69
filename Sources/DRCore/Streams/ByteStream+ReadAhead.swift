import NIOCore

extension ByteStream {
  /// The same stream, pulled by a task of its own: whoever makes the buffers works while the consumer does.
  ///
  /// Begins with the first pull. Dropping the stream, or cancelling who pulls it, ends the task.
  ///
  /// - Parameter count: How many buffers may wait for the consumer; one more is with the task.
  package func readingAhead(_ count: Int) -> ByteStream {
    let begun = MutableBox<ReadAhead?>(nil)
    return ByteStream {
      let reader = begun.withLock { slot in
        let reader = slot ?? ReadAhead(self, count: count)
        slot = reader
        return reader
      }
      return try await reader.next()
    }
  }
}

private final class ReadAhead: Sendable {
  private let channel: BoundedChannel<ByteBuffer>
  private let task: Task<Void, Never>

  init(_ stream: ByteStream, count: Int) {
    let channel = BoundedChannel<ByteBuffer>(capacity: count)
    self.channel = channel
    task = Task {
      do {
        for try await buffer in stream {
          guard await channel.send(buffer) else { return }
          try Task.checkCancellation()
        }
        channel.finish()
      } catch {
        channel.finish(throwing: error)
      }
    }
  }

  deinit {
    task.cancel()
    channel.close()
  }

  func next() async throws -> ByteBuffer? {
    let task = task
    return try await withTaskCancellationHandler {
      try await channel.receive()
    } onCancel: {
      task.cancel()
    }
  }
}
