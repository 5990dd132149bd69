/// How long to wait before the next capture of a tree that changes all the time: pure.
package struct CaptureRate {
  private let burst: Int
  private let longest: Duration
  private var last: ContinuousClock.Instant?
  /// Captures each of which came soon after the one before.
  private var running = 0
  private var interval: Duration = .zero

  package init(burst: Int, longest: Duration) {
    self.burst = burst
    self.longest = longest
  }

  /// A capture ended.
  package mutating func note(_ now: ContinuousClock.Instant) {
    let isSoon = last.map { $0.duration(to: now) < max(.seconds(10), interval * 2) } ?? false
    running = isSoon ? running + 1 : 0
    interval = running < burst ? .zero : min(longest, .seconds(1 << min(running - burst + 1, 20)))
    last = now
  }

  package func pause(before now: ContinuousClock.Instant) -> Duration {
    guard let last else { return .zero }
    return max(.zero, now.duration(to: last.advanced(by: interval)))
  }
}
