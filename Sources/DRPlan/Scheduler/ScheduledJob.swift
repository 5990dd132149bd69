import DRCore

/// Something that is to be done when a schedule says so.
public struct ScheduledJob: Sendable {
  public enum Schedule: Hashable, Sendable {
    /// At times of the clock.
    case cron(CronExpression)
    /// All the time: it is begun again when it has ended.
    case always
  }

  /// What becomes of runs for which nobody was there: the host was down, or the run before was still going on.
  public enum Missed: String, Hashable, Sendable, Codable, CaseIterable {
    /// All of them are made up for by one run, at once.
    case catchUp = "catch-up"
    /// They are left out; the next one is at its time.
    case skip
  }

  /// The name under which the scheduler remembers it: of a capture `postgres/agent_orchestrator base backup`.
  public var id: String
  public var schedule: Schedule
  public var missed: Missed
  /// Up to so long after its time, lest all hosts ask one server at once. Of one job and time it is always the same.
  public var jitter: Span
  /// How often a run is tried, 1 to 100. What runs all the time is tried without end.
  public var attempts: Int
  /// Before the second attempt; twice as long before each further one, up to ``longestPause``.
  public var pause: Span
  /// When an attempt is given up. What runs all the time has none.
  public var limit: Span
  public var action: any RecoveryAction

  /// No pause between two attempts is longer.
  public static let longestPause = Span.minutes(15)

  public init(
    _ id: String, _ schedule: Schedule, missed: Missed = .catchUp, jitter: Span = .seconds(0), attempts: Int = 3,
    pause: Span = .seconds(30), limit: Span = .hours(12), _ action: any RecoveryAction
  ) {
    self.id = id
    self.schedule = schedule
    self.missed = missed
    self.jitter = jitter
    self.attempts = attempts
    self.pause = pause
    self.limit = limit
    self.action = action
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  func check() throws {
    let isRight =
      !id.isEmpty && id.utf8.count <= 300 && (1...100).contains(attempts) && jitter.seconds >= 0
      && pause.seconds > 0 && limit.seconds > 0
    guard isRight else {
      throw DRError(
        .invalidConfiguration, "the job '\(id.prefix(80))' has a name, attempts, a pause or a limit out of range",
        advice: "attempts are 1 to 100, pauses and limits longer than nothing", object: id)
    }
  }

  /// Before an attempt, counted from 1.
  func pause(before attempt: Int) -> Double {
    min(pause.seconds * Double(1 << min(max(attempt - 2, 0), 20)), max(Self.longestPause.seconds, pause.seconds))
  }

  /// How long after a time of its schedule it begins, in seconds.
  func delay(at seconds: Double) -> Double {
    guard jitter.seconds > 0 else { return 0 }
    // FNV-1a: spread, the same on every host.
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in "\(id) \(Int64(seconds))".utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return jitter.seconds * Double((hash ^ hash >> 32) % 10_007) / 10_007
  }
}
