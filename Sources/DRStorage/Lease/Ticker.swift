/// Time that only goes forward, from any clock. A host that sleeps does not stop it, with the clock that is the default.
struct Ticker: Sendable {
  /// Since this was made.
  let elapsed: @Sendable () -> Duration
  let sleep: @Sendable (Duration) async throws -> Void

  init<C: Clock<Duration>>(_ clock: C) where C.Instant: Sendable {
    let start = clock.now
    elapsed = { start.duration(to: clock.now) }
    sleep = { try await clock.sleep(for: $0) }
  }
}
