import DRRedis
import Foundation
import Testing

struct StreamDelayTests {
  private static let start = Date(timeIntervalSince1970: 1_000_000)

  @Test func whatHadWaitedIsLate() {
    var delay = StreamDelay()
    let begin = delay.arrival(of: 0, at: Self.start)
    let stale = delay.begin()
    let question = delay.begin()
    delay.found(5, question: stale)
    let unknown = delay.arrival(of: 10, at: Self.start)
    delay.found(20, question: question)
    let before = delay.arrival(of: 19, at: Self.start)
    let after = delay.arrival(of: 20, at: Self.start)
    #expect([begin, unknown, before, after].map(\.isLate) == [false, true, true, false])
  }

  /// Its own clock says that it stood still.
  @Test func whoStoodStillIsLate() {
    var delay = StreamDelay()
    let ticks = [0, 1, 2.5, 5.4].map { delay.tick(Self.start + $0) }
    #expect(ticks == [nil, nil, nil, nil])
    let question = delay.tick(Self.start + 9)
    let first = delay.arrival(of: 10, at: Self.start + 9)
    let second = delay.arrival(of: 12, at: Self.start + 9.1)
    #expect(first.isLate && first.lateSince == Self.start + 5.4 && second.isLate && second.lateSince == nil)
    delay.found(13, question: question ?? 0)
    let third = delay.arrival(of: 13, at: Self.start + 9.2)
    #expect(question != nil && !third.isLate)
  }
}
