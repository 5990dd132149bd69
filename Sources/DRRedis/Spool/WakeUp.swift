import Synchronization

/// One task waits, others wake it; a call while nobody waits is kept for who waits next.
///
/// It may also wake for nothing: who waits looks again whether there is a reason.
final class WakeUp: Sendable {
  private struct State {
    var isCalled = false
    var waiter: CheckedContinuation<Void, Never>?
  }

  private let state = Mutex(State())

  func call() {
    let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard let waiter = state.waiter else {
        state.isCalled = true
        return nil
      }
      state.waiter = nil
      return waiter
    }
    waiter?.resume()
  }

  /// Waits for a call, for the time to pass, or until the task is cancelled.
  func wait(_ limit: Duration) async {
    let clock = Task { [self] in
      try await Task.sleep(for: limit)
      call()
    }
    defer { clock.cancel() }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isCalled = state.withLock { state in
          guard !state.isCalled else {
            state.isCalled = false
            return true
          }
          state.waiter = continuation
          return false
        }
        if isCalled { continuation.resume() }
      }
    } onCancel: {
      call()
    }
  }
}
