/// Pauses between attempts: each up to twice as long as the one before, with jitter so that many clients do not come
/// back at the same moment.
package struct BackOff: Sendable {
  private let shortest: Duration
  private let longest: Duration
  private var current: Duration

  package init(shortest: Duration = .milliseconds(200), longest: Duration) {
    self.shortest = min(shortest, longest)
    self.longest = longest
    current = self.shortest
  }

  package mutating func reset() { current = shortest }

  /// Between half of the current pause and all of it.
  package mutating func next() -> Duration {
    let pause = current * Double.random(in: 0.5...1)
    current = min(current * 2, longest)
    return pause
  }
}
