package import struct Foundation.Date

/// Tells which bytes of a stream came as soon as they were made, and which had waited at the server: pure.
///
/// They wait there while a data set is sent, while there is no connection, and while this process stands still. All that the
/// server had made by the time at which it is asked afterwards is taken for late.
package struct StreamDelay: Sendable {
  /// Seconds from one tick to the next, beyond which this process stood still: it ticks every second.
  private static let longestTick = 3.0

  private var lastTick: Date?
  private var isBehind = false
  /// What the server had made when it was asked; nil before it has answered.
  private var end: Int64?
  private var since: Date?
  private var question = 0

  package init() {}

  /// From now on something comes that has waited, until more is known.
  ///
  /// - Parameter since: Since when; nil: since what came before it.
  /// - Returns: The number of the question to the server how far it is.
  package mutating func begin(since: Date? = nil) -> Int {
    if !isBehind { self.since = since }
    isBehind = true
    end = nil
    question += 1
    return question
  }

  /// To be called every second, and before bytes are taken.
  ///
  /// - Returns: The number of a question, if this process stood still.
  package mutating func tick(_ now: Date) -> Int? {
    defer { lastTick = now }
    guard let lastTick, now.timeIntervalSince(lastTick) > Self.longestTick else { return nil }
    return begin(since: lastTick)
  }

  /// The answer to a question: how far the server was. An answer to an earlier one is none.
  package mutating func found(_ offset: Int64, question: Int) {
    if question == self.question { end = offset }
  }

  /// Bytes that come now.
  ///
  /// - Parameter start: The offset before them.
  package mutating func arrival(of start: Int64, at now: Date) -> Arrival {
    if let end, start >= end { isBehind = false }
    guard isBehind else { return Arrival(moment: now) }
    defer { since = nil }
    return Arrival(moment: now, isLate: true, lateSince: since)
  }
}
