import DRCore

/// How long a password that the server refuses is worth another attempt: pure.
///
/// Whoever changes it does so on the server and in the file, one after the other, and the file is read at each connection.
struct RefusedPassword {
  private let password: RedisPassword?
  private let patience: Duration
  private var since: ContinuousClock.Instant?

  init(_ password: RedisPassword?, patience: Duration) {
    (self.password, self.patience) = (password, patience)
  }

  /// The server has taken it.
  mutating func reset() { since = nil }

  /// Whether the error is of a password that may be another one soon.
  mutating func mayPass(_ error: DRError, now: ContinuousClock.Instant = .now) -> Bool {
    guard let password, let file = password.file else { return false }
    let isRefused = ["WRONGPASS", "NOAUTH"].contains(error.redisError?.kind ?? "")
    // While the file is replaced, it may be away or empty.
    guard isRefused || (error.code == .invalidConfiguration && error.object == file) else { return false }
    let first = since ?? now
    since = first
    return first.duration(to: now) < patience
  }
}
