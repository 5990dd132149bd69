import Synchronization

/// Counts the bytes of a transfer and reports them at most a few times a second.
public final class ProgressMeter: Sendable {
  private struct State {
    var progress: TransferProgress
    var lastReport: Duration?
  }

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
    self.interval = interval
    self.handler = handler
    state = Mutex(State(progress: TransferProgress(subject: subject, done: 0, total: total, elapsed: .zero)))
  }

  /// Says that what follows is of another subject.
  public func begin(_ subject: String) { state.withLock { $0.progress.subject = subject } }

  /// Adds to the total; nil, once there is more of a length that nobody knows.
  public func expect(_ bytes: Int64?) {
    state.withLock { state in
      state.progress.total = bytes.flatMap { more in state.progress.total.map { $0 + more } }
    }
  }

  /// Counts more raw bytes.
  public func add(_ bytes: Int) {
    report { progress in
      progress.done += Int64(bytes)
      progress.waitingFor = nil
    }
  }

  /// Counts more stored bytes.
  public func addStored(_ bytes: Int) { report { $0.stored = ($0.stored ?? 0) + Int64(bytes) } }

  /// Says what is waited for: at once when that begins, then as often as other progress.
  public func wait(for what: String) {
    reportWhenDue { progress in
      defer { progress.waitingFor = what }
      return progress.waitingFor == nil
    }
  }

  /// Makes the last report.
  public func finish() {
    reportWhenDue { progress in
      progress.waitingFor = nil
      progress.finished = true
      return true
    }
  }

  private func report(_ change: (inout TransferProgress) -> Void) {
    reportWhenDue { progress in
      change(&progress)
      return false
    }
  }

  /// - Parameter change: Returns whether to report at once.
  private func reportWhenDue(_ change: (inout TransferProgress) -> Bool) {
    let now = elapsed()
    // Reported under the lock, so that reports are in order.
    state.withLock { state in
      let isUrgent = change(&state.progress)
      if !isUrgent, let last = state.lastReport, now - last < interval { return }
      state.lastReport = now
      state.progress.elapsed = now
      handler(state.progress)
    }
  }
}
