/// Runs an operation and cancels it when the limit is reached.
///
/// The operation must answer to cancellation; this returns only once it has ended.
///
/// - Throws: ``DRError`` with `timedOut` naming what was waited for, or what the operation throws.
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
      throw DRError(.timedOut, "\(what) took longer than \(limit)", advice: advice)
    }
    return result
  }
}
