/// What an operation that looks again and again throws when it is cancelled: what it saw last.
package struct StillWaiting: Error {
  package var seen: any Error
  package init(_ seen: any Error) { self.seen = seen }
}

/// Runs an operation and cancels it when the limit is reached.
///
/// The operation must answer to cancellation; this returns only once it has ended.
///
/// - Throws: ``DRError`` with `timedOut` naming what was waited for, with what was ``StillWaiting/seen`` last as its cause; or what the
///   operation throws.
package func withTimeLimit<Result: Sendable>(
  _ limit: Duration, _ what: String, advice: String? = nil, clock: some Clock<Duration> = ContinuousClock(),
  _ operation: @escaping @Sendable () async throws -> Result
) async throws -> Result {
  try await withThrowingTaskGroup(of: Result?.self) { group in
    group.addTask { try await operation() }
    group.addTask {
      try await clock.sleep(for: limit)
      return nil
    }
    defer { group.cancelAll() }
    guard let first = try await group.next(), let result = first else {
      group.cancelAll()
      var seen: (any Error)?
      if case .failure(let error as StillWaiting)? = await group.nextResult() { seen = error.seen }
      throw DRError(.timedOut, "\(what) took longer than \(limit)", advice: advice, cause: seen)
    }
    return result
  }
}
