import Synchronization

/// Counts the bytes of a transfer and reports them at most a few times a second.
public final class ProgressMeter: Sendable {
  private struct State {
    var done: Int64 = 0
    var subject: String
    var lastReport: Duration?
  }

  private let total: Int64?
  private let interval: Duration
  private let elapsed: @Sendable () -> Duration
  private let handler: ProgressHandler
  private let state: Mutex<State>

  /// - Parameters:
  ///   - subject: What is being transferred.
  ///   - total: Raw bytes in all, as far as is known.
  ///   - interval: The least time between two reports.
  public init<C: Clock<Duration>>(
    _ subject: String, total: Int64?, every interval: Duration = .milliseconds(250), clock: C = ContinuousClock(),
    handler: @escaping ProgressHandler
  ) where C.Instant: Sendable {
    let start = clock.now
    elapsed = { start.duration(to: clock.now) }
    self.total = total
    self.interval = interval
    self.handler = handler
    state = Mutex(State(subject: subject))
  }

  /// Says that what follows is of another subject.
  public func begin(_ subject: String) { state.withLock { $0.subject = subject } }

  /// Counts more raw bytes.
  public func add(_ bytes: Int) {
    let now = elapsed()
    // Reported under the lock, so that reports are in order.
    state.withLock { state in
      state.done += Int64(bytes)
      if let last = state.lastReport, now - last < interval { return }
      state.lastReport = now
      handler(TransferProgress(subject: state.subject, done: state.done, total: total, elapsed: now))
    }
  }

  /// Makes the last report.
  public func finish() {
    let now = elapsed()
    state.withLock { state in
      handler(TransferProgress(subject: state.subject, done: state.done, total: total, elapsed: now, finished: true))
    }
  }
}
