package import NIOCore

/// Pulls a stream on a task of its own: whoever makes the buffers works while the consumer does.
///
/// The consumer takes all that is ready at once, so that it need not be woken for each buffer. Dropping the last reference, or cancelling
/// who waits for the next buffers, ends the task.
package final class ReadAhead: Sendable {
  private let channel: BoundedChannel<ByteBuffer>
  private let task: Task<Void, Never>

  /// - Parameter count: How many buffers may be ready; as many are with the consumer at most, and one is being made.
  package init(_ stream: ByteStream, count: Int) {
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

  /// The buffers that are ready, in order; it waits for the first. Nil at the end.
  ///
  /// - Throws: What the stream throws, once everything before it was taken; `CancellationError`.
  package func next() async throws -> [ByteBuffer]? {
    let task = task
    return try await withTaskCancellationHandler {
      try await channel.receiveAll()
    } onCancel: {
      task.cancel()
    }
  }
}
