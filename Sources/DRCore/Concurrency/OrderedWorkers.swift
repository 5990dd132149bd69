import Synchronization

/// Transforms a stream of items on several workers at once and gives the results in the order of the items.
///
/// Each worker has a context of its own (a compressor, say) and a thread of its own, so that long work holds no thread of
/// the cooperative pool. Behind the item in work each thread has its next one waiting, so that it does not stand still until a
/// task has been woken to bring it. A reader keeps as many items ready as there are workers, twice as many are with them, and
/// as many results wait: memory is bounded by that. Dropping the last reference ends the reader and its source.
package final class OrderedWorkers<Item: Sendable, Context: Sendable, Output: Sendable>: Sendable {
  private let items: BoundedChannel<Item>
  private let results: BoundedChannel<Task<Output, any Error>>
  private let tasks: [Task<Void, Never>]

  /// - Parameters:
  ///   - contexts: One for each worker.
  ///   - source: Gives the next item, or nil at the end. Calls never overlap.
  ///   - transform: Runs on one context at a time.
  package init(
    contexts: [Context], source: @escaping @Sendable () async throws -> Item?,
    transform: @escaping @Sendable (Item, Context) throws -> Output
  ) {
    let items = BoundedChannel<Item>(capacity: contexts.count)
    let results = BoundedChannel<Task<Output, any Error>>(capacity: contexts.count * 3)
    let workers = contexts.map { Worker(context: $0, executor: BlockingExecutor(label: "frame.worker")) }
    // Each twice: its thread takes one after the other.
    let pool = ContextPool(workers + workers)
    self.items = items
    self.results = results
    // The source's socket is read on while every worker is busy.
    let reader = Task {
      do {
        while let item = try await source() {
          guard await items.send(item) else { return }
          try Task.checkCancellation()
        }
        items.finish()
      } catch {
        items.finish(throwing: error)
      }
    }
    let dispatcher = Task {
      do {
        while let item = try await items.receive() {
          let worker = await pool.take()
          let task = Task {
            defer { pool.give(back: worker) }
            return try await worker.executor.run { try transform(item, worker.context) }
          }
          guard await results.send(task) else { return }
        }
        results.finish()
      } catch {
        results.finish(throwing: error)
      }
    }
    tasks = [reader, dispatcher]
  }

  deinit { stop() }

  private func stop() {
    for task in tasks { task.cancel() }
    items.close()
    results.close()
  }

  /// The next result in order, or nil at the end.
  package func next() async throws -> Output? {
    try await withTaskCancellationHandler {
      guard let task = try await results.receive() else { return nil }
      return try await task.value
    } onCancel: {
      stop()
    }
  }
}

/// A context, and the thread that works with it.
private struct Worker<Context: Sendable>: Sendable {
  let context: Context
  let executor: BlockingExecutor
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
