/// How far a transfer is.
public struct TransferProgress: Hashable, Sendable {
  /// What is being transferred, for people: an artifact's name.
  public var subject: String
  /// Raw bytes done.
  public var done: Int64
  /// Raw bytes in all, as far as is known beforehand; a guess that may be passed.
  public var total: Int64?
  /// Stored bytes so far, where something is stored: after compression and encryption.
  public var stored: Int64?
  /// What is waited for while no bytes move, for people: `WAL in the archive, from 0/3000148 on`.
  public var waitingFor: String?
  /// Since the start.
  public var elapsed: Duration
  /// Whether this is the last report.
  public var finished: Bool

  public init(
    subject: String, done: Int64, total: Int64?, stored: Int64? = nil, waitingFor: String? = nil, elapsed: Duration,
    finished: Bool = false
  ) {
    self.subject = subject
    self.done = done
    self.total = total
    self.stored = stored
    self.waitingFor = waitingFor
    self.elapsed = elapsed
    self.finished = finished
  }

  /// Bytes per second since the start; 0 in the first instant.
  public var rate: Double {
    let seconds = elapsed / .seconds(1)
    return seconds > 0 ? Double(done) / seconds : 0
  }

  /// What part is done, 0 to 1, where the total is known.
  public var fraction: Double? {
    guard let total, total > 0 else { return nil }
    return min(1, Double(done) / Double(total))
  }

  /// The time still needed at the rate so far, where it can be told.
  public var remaining: Duration? {
    guard let total, rate > 0 else { return nil }
    return .seconds(Double(max(0, total - done)) / rate)
  }
}

/// Where progress goes. Called from any thread, at most a few times a second, in order.
public typealias ProgressHandler = @Sendable (TransferProgress) -> Void
