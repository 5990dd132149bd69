/// What is said once, and again only after a while: a full disk that fails a tap each second is one piece of news.
package struct RepeatedNews: Sendable {
  private let interval: Duration
  private var last: (text: String, said: ContinuousClock.Instant)?

  package init(every interval: Duration = .seconds(60)) { self.interval = interval }

  /// Whether this is another text than the last one, or that one was said a while ago.
  package mutating func isNew(_ text: String, now: ContinuousClock.Instant = .now) -> Bool {
    if let last, last.text == text, last.said.duration(to: now) < interval { return false }
    last = (text, now)
    return true
  }
}
