import Synchronization

/// How often, how long and how eagerly a failed request is tried again.
public struct RetryPolicy: Sendable {
  /// In all, from 1.
  public var attempts: Int
  /// Between the first attempt and the start of the last one.
  public var timeLimit: Duration
  /// The most that is waited before the second attempt; it doubles from there.
  public var firstDelay: Duration
  /// The most that is waited before any.
  public var longestDelay: Duration

  public init(
    attempts: Int = 6, timeLimit: Duration = .seconds(120), firstDelay: Duration = .milliseconds(200),
    longestDelay: Duration = .seconds(20)
  ) {
    self.attempts = max(1, attempts)
    self.timeLimit = timeLimit
    self.firstDelay = firstDelay
    self.longestDelay = longestDelay
  }

  /// What to wait before the attempt that follows so many failed ones: anything from nothing to the step ("full jitter"),
  /// so that many clients that failed together do not come back together.
  ///
  /// - Parameter chance: 0 to 1.
  package func delay(afterFailures failures: Int, chance: Double) -> Duration {
    let doublings = min(30, max(0, failures - 1))
    return min(longestDelay, firstDelay * (1 << doublings)) * chance
  }
}

/// Keeps retries from multiplying the load of a tier that is down: every retry takes tokens, every success gives some
/// back, and without tokens a failure is final. One for all the requests of a process to a tier.
public final class RetryBudget: Sendable {
  private let capacity: Int
  private let tokens: Mutex<Int>

  /// What a retry takes; a success gives one back.
  private static let cost = 5

  /// - Parameter retries: How many in a row, with no success in between.
  public init(retries: Int = 100) {
    capacity = max(0, retries) * RetryBudget.cost
    tokens = Mutex(capacity)
  }

  /// Whether one more retry is allowed.
  package func take() -> Bool {
    tokens.withLock { tokens in
      guard tokens >= RetryBudget.cost else { return false }
      tokens -= RetryBudget.cost
      return true
    }
  }

  package func succeeded() { tokens.withLock { $0 = min(capacity, $0 + 1) } }
}
