/// How an error that comes again and again is said: in full when it is new or another one, shortly once in a while, and
/// once when it is over.
package struct RepeatedError: Sendable {
  package enum Saying: Hashable, Sendable {
    case full
    /// It has gone on for so long.
    case short(Duration)
    case nothing
  }

  private let interval: Duration
  private var known: (text: String, since: ContinuousClock.Instant, said: ContinuousClock.Instant)?

  /// - Parameter interval: Between two repeats.
  package init(interval: Duration = .seconds(60)) { self.interval = interval }

  /// - Parameter now: When it came.
  package mutating func next(_ error: DRError, now: ContinuousClock.Instant = .now) -> Saying {
    // Not the object: the same disk is full for each of them.
    let text = "\(error.code) \(error.message) \(error.cause.map { DRError.text(of: $0) } ?? "")"
    guard var same = known, same.text == text else {
      known = (text, known?.since ?? now, now)
      return .full
    }
    guard same.said.duration(to: now) >= interval else { return .nothing }
    same.said = now
    known = same
    return .short(same.since.duration(to: now))
  }

  /// It works again. Gives how long it had not; nil if there was no error since the last time.
  package mutating func end(now: ContinuousClock.Instant = .now) -> Duration? {
    defer { known = nil }
    return known?.since.duration(to: now)
  }
}
