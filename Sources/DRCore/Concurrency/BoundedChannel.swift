import Synchronization

/// A queue between one producer and one consumer that holds at most so many elements: sending waits while it is full.
package final class BoundedChannel<Element: Sendable>: Sendable {
  private struct State {
    var elements: [Element] = []
    var ended = false
    var failure: (any Error)?
    var closed = false
    var sender: CheckedContinuation<Bool, Never>?
    var receiver: CheckedContinuation<Element?, any Error>?
  }

  private let capacity: Int
  private let state = Mutex(State())

  package init(capacity: Int) { self.capacity = max(1, capacity) }

  /// Adds an element once there is room. Returns false when the consumer has gone: stop producing.
  package func send(_ element: Element) async -> Bool {
    await withCheckedContinuation { continuation in
      let wake: (@Sendable () -> Void)? = state.withLock { state in
        guard !state.closed else { return { continuation.resume(returning: false) } }
        if let receiver = state.receiver {
          state.receiver = nil
          return {
            receiver.resume(returning: element)
            continuation.resume(returning: true)
          }
        }
        state.elements.append(element)
        guard state.elements.count >= capacity else { return { continuation.resume(returning: true) } }
        state.sender = continuation
        return nil
      }
      wake?()
    }
  }

  /// Says that nothing more comes: after what is queued, the consumer sees the end, or the error.
  package func finish(throwing error: (any Error)? = nil) {
    let receiver = state.withLock { state -> CheckedContinuation<Element?, any Error>? in
      guard !state.ended else { return nil }
      state.ended = true
      guard let receiver = state.receiver else {
        state.failure = error
        return nil
      }
      state.receiver = nil
      return receiver
    }
    if let error { receiver?.resume(throwing: error) } else { receiver?.resume(returning: nil) }
  }

  /// Says that the consumer has gone: a waiting sender is let go, what is queued is dropped.
  package func close() {
    let (sender, receiver) = state.withLock { state in
      state.closed = true
      state.elements = []
      let waiting = (state.sender, state.receiver)
      state.sender = nil
      state.receiver = nil
      return waiting
    }
    sender?.resume(returning: false)
    receiver?.resume(throwing: CancellationError())
  }

  /// The next element, or nil at the end. Throws what the producer finished with, or CancellationError once cancelled.
  package func receive() async throws -> Element? {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let wake: (@Sendable () -> Void)? = state.withLock { state in
          if !state.elements.isEmpty {
            let element = state.elements.removeFirst()
            let sender = state.sender
            state.sender = nil
            return {
              sender?.resume(returning: true)
              continuation.resume(returning: element)
            }
          }
          if state.closed { return { continuation.resume(throwing: CancellationError()) } }
          if let failure = state.failure {
            state.failure = nil
            return { continuation.resume(throwing: failure) }
          }
          if state.ended { return { continuation.resume(returning: nil) } }
          state.receiver = continuation
          return nil
        }
        wake?()
      }
    } onCancel: {
      close()
    }
  }

  /// All that is queued, at least one element, or nil at the end. Throws as ``receive()``.
  package func receiveAll() async throws -> [Element]? {
    guard let first = try await receive() else { return nil }
    let (rest, sender) = state.withLock { state in
      let taken = (state.elements, state.sender)
      state.elements = []
      state.sender = nil
      return taken
    }
    sender?.resume(returning: true)
    return [first] + rest
  }
}
