import Synchronization

/// Transforms a stream of items on several workers at once and gives the results in the order of the items.
///
/// Each worker has a context of its own (a compressor, say), used by one task at a time. A pump reads ahead so far that
/// the workers stay busy: at most `workers` items are in work and twice as many wait, done or not. Dropping the last
/// reference ends the pump and its source.
package final class OrderedWorkers<Item: Sendable, Context: Sendable, Output: Sendable>: Sendable {
  private let results: BoundedChannel<Task<Output, any Error>>
  private let pump: Task<Void, Never>

  /// - Parameters:
  ///   - contexts: One for each worker.
  ///   - source: Gives the next item, or nil at the end. Calls never overlap.
  ///   - transform: Runs on one context at a time.
  package init(
    contexts: [Context], source: @escaping @Sendable () async throws -> Item?,
    transform: @escaping @Sendable (Item, Context) throws -> Output
  ) {
    let results = BoundedChannel<Task<Output, any Error>>(capacity: contexts.count * 2)
    let pool = ContextPool(contexts)
    self.results = results
    pump = Task {
      do {
        while let item = try await source() {
          let context = await pool.take()
          let task = Task {
            defer { pool.give(back: context) }
            return try transform(item, context)
          }
          guard await results.send(task) else { return }
          try Task.checkCancellation()
        }
        results.finish()
      } catch {
        results.finish(throwing: error)
      }
    }
  }

  deinit {
    pump.cancel()
    results.close()
  }

  /// The next result in order, or nil at the end.
  package func next() async throws -> Output? {
    try await withTaskCancellationHandler {
      guard let task = try await results.receive() else { return nil }
      return try await task.value
    } onCancel: {
      pump.cancel()
    }
  }
}

/// Contexts to borrow; taking waits until one is there.
private final class ContextPool<Context: Sendable>: Sendable {
  private struct State {
    var free: [Context]
    var waiting: [CheckedContinuation<Context, Never>] = []
  }

  private let state: Mutex<State>

  init(_ contexts: [Context]) { state = Mutex(State(free: contexts)) }

  func take() async -> Context {
    await withCheckedContinuation { continuation in
      let context = state.withLock { state -> Context? in
        guard let context = state.free.popLast() else {
          state.waiting.append(continuation)
          return nil
        }
        return context
      }
      if let context { continuation.resume(returning: context) }
    }
  }

  func give(back context: Context) {
    let waiter = state.withLock { state -> CheckedContinuation<Context, Never>? in
      guard !state.waiting.isEmpty else {
        state.free.append(context)
        return nil
      }
      return state.waiting.removeFirst()
    }
    waiter?.resume(returning: context)
  }
}
