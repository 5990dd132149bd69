import DRCore
import DRPlan
import Foundation
import Testing

/// What a scheduler decides: missed runs, overlap, jitter, attempts, clocks that jump; without a clock, so a year takes no time.
struct ScheduleBookTests {
  private static let start = Date(
    timeIntervalSince1970: 1_790_000_000 - 1_790_000_000.truncatingRemainder(dividingBy: 86_400))
  private static let nothing = CustomAction("nothing") { "" }

  private static func at(_ hours: Double) -> Date { start.addingTimeInterval(hours * 3600) }

  private static func job(
    _ text: String = "0 * * * *", missed: ScheduledJob.Missed = .catchUp, jitter: Span = .seconds(0), attempts: Int = 3
  ) throws -> ScheduledJob {
    ScheduledJob(
      "job", .cron(try CronExpression(text)), missed: missed, jitter: jitter, attempts: attempts, pause: .seconds(60),
      nothing)
  }

  private static func orders(_ decisions: [ScheduleBook.Decision]) -> [ScheduleBook.Order] {
    decisions.compactMap { if case .begin(let order) = $0 { order } else { nil } }
  }

  /// What begins: the hour of its schedule, the attempt, and how many were missed before it.
  private static func said(_ decisions: [ScheduleBook.Decision]) -> [String] {
    orders(decisions).map { "\($0.due.timeIntervalSince(start) / 3600) attempt \($0.attempt) missed \($0.missed)" }
  }

  @Test("A new job counts from now on; at its time it begins once, and not again while it runs")
  func once() throws {
    let job = try Self.job()
    var book = ScheduleBook()
    book.open([job], at: Self.at(0.5))
    let decided1 = book.decide([job], at: Self.at(0.9), in: .gmt)
    #expect(decided1.isEmpty)
    #expect(book.next([job], after: Self.at(0.9), in: .gmt) == Self.at(1))
    let begun = Self.said(book.decide([job], at: Self.at(1), in: .gmt))
    #expect(begun == ["1.0 attempt 1 missed 0"])
    let decided2 = book.decide([job], at: Self.at(1.01), in: .gmt)
    #expect(decided2.isEmpty)
    // The run of two o'clock waits for the end of this one, and is made up for then.
    let decided3 = book.decide([job], at: Self.at(2), in: .gmt)
    #expect(decided3.isEmpty)
    book.end(job, .succeeded, at: Self.at(2.5))
    #expect(book.jobs[job.id]?.lastSuccess == Self.at(2.5) && book.jobs[job.id]?.lastSuccessBegan == Self.at(1))
    let decided4 = book.decide([job], at: Self.at(2.5), in: .gmt)
    #expect(Self.orders(decided4).map(\.due) == [Self.at(2)])
  }

  @Test("Missed runs are made up for by one, or left out, as the job says", arguments: ScheduledJob.Missed.allCases)
  func missed(_ policy: ScheduledJob.Missed) throws {
    let job = try Self.job(missed: policy)
    var book = ScheduleBook()
    book.open([job], at: Self.at(0.5))
    book.open([job], at: Self.at(5.5))
    let decisions = book.decide([job], at: Self.at(5.5), in: .gmt)
    switch policy {
    case .catchUp:
      #expect(Self.said(decisions) == ["5.0 attempt 1 missed 4"])
    case .skip:
      #expect(decisions == [.skipped(job: "job", runs: 5, last: Self.at(5))])
      let decided5 = book.decide([job], at: Self.at(6), in: .gmt)
      #expect(Self.orders(decided5).count == 1)
    }
  }

  @Test("A failure is tried again after a pause that doubles, so often as is said, and the next time takes over")
  func attempts() throws {
    let job = try Self.job()
    var book = ScheduleBook()
    book.open([job], at: Self.at(0.5))
    var now = Self.at(1)
    for (attempt, pause) in [(1, 60.0), (2, 120)] {
      let decided6 = book.decide([job], at: now, in: .gmt)
      #expect(Self.orders(decided6).map(\.attempt) == [attempt])
      let ended = book.end(job, .failed, "no", at: now)
      let again = try #require(ended)
      #expect(again == now.addingTimeInterval(pause))
      let decided7 = book.decide([job], at: again.addingTimeInterval(-1), in: .gmt)
      #expect(decided7.isEmpty)
      now = again
    }
    let decided8 = book.decide([job], at: now, in: .gmt)
    #expect(Self.orders(decided8).map(\.attempt) == [3])
    let last = book.end(job, .failed, "no", at: now)
    #expect(last == nil)
    #expect(book.jobs["job"]?.failures == 3)
    #expect(book.next([job], after: now, in: .gmt) == Self.at(2))
    // A retry that waits is overtaken.
    _ = book.decide([job], at: Self.at(2), in: .gmt)
    book.end(job, .failed, "no", at: Self.at(2.995))
    let decided9 = book.decide([job], at: Self.at(3), in: .gmt)
    #expect(Self.orders(decided9).map(\.attempt) == [1])
    book.end(job, .succeeded, at: Self.at(3.1))
    #expect(book.jobs["job"]?.failures == 0 && book.jobs["job"]?.lastError == nil)
  }

  @Test("A run whose owner died is tried again, after what is remembered was written and read")
  func killed() throws {
    let job = try Self.job(attempts: 1)
    var book = ScheduleBook()
    book.open([job], at: Self.at(0.5))
    _ = book.decide([job], at: Self.at(1), in: .gmt)
    book = try JSONDecoder().decode(ScheduleBook.self, from: JSONEncoder().encode(book))
    book.open([job], at: Self.at(1.2))
    let again = Self.said(book.decide([job], at: Self.at(1.2), in: .gmt))
    #expect(again == ["1.0 attempt 2 missed 0"])
    // What brings its host down is not tried for ever.
    book.open([job], at: Self.at(1.3))
    let decided10 = book.decide([job], at: Self.at(1.3), in: .gmt)
    #expect(decided10.isEmpty)
    #expect(book.jobs["job"]?.failures == 2)
  }

  @Test("Jitter moves a run by less than was said, each time alike, and every time differently")
  func jitter() throws {
    let job = try Self.job(jitter: .minutes(10))
    var delays: Set<Double> = []
    for hour in 1...20 {
      var book = ScheduleBook()
      book.open([job], at: Self.at(Double(hour) - 0.5))
      let next = try #require(book.next([job], after: Self.at(Double(hour) - 0.5), in: .gmt))
      let delay = next.timeIntervalSince(Self.at(Double(hour)))
      #expect((0..<600).contains(delay))
      let decided11 = book.decide([job], at: next.addingTimeInterval(-1), in: .gmt)
      #expect(decided11.isEmpty)
      #expect(book.next([job], after: next.addingTimeInterval(-1), in: .gmt) == next)
      let decided12 = book.decide([job], at: next, in: .gmt)
      #expect(Self.orders(decided12).map(\.due) == [Self.at(Double(hour))])
      delays.insert(delay)
    }
    #expect(delays.count > 15)
  }

  @Test("A clock that was set back does not stop a job for the time that it was wrong")
  func clockWentBack() throws {
    let job = try Self.job()
    var book = ScheduleBook()
    book.open([job], at: Self.at(1000.5))
    let decisions = book.decide([job], at: Self.at(1.5), in: .gmt)
    #expect(decisions == [.clockWentBack(job: "job", by: .hours(999))])
    let decided13 = book.decide([job], at: Self.at(2), in: .gmt)
    #expect(Self.orders(decided13).count == 1)
  }

  @Test("What runs all the time is begun again, later and later while it fails, and at once after an interruption")
  func always() throws {
    let job = ScheduledJob("log", .always, pause: .seconds(1), Self.nothing)
    var book = ScheduleBook()
    book.open([job], at: Self.at(0))
    var now = Self.at(0)
    var pauses: [Double] = []
    for _ in 0..<14 {
      let decided14 = book.decide([job], at: now, in: .gmt)
      #expect(Self.orders(decided14).count == 1)
      let ended = book.end(job, .failed, "no", at: now)
      let again = try #require(ended)
      pauses.append(again.timeIntervalSince(now))
      now = again
    }
    #expect(pauses.prefix(4) == [1, 2, 4, 8] && pauses.last == ScheduledJob.longestPause.seconds)
    _ = book.decide([job], at: now, in: .gmt)
    let late = book.end(job, .failed, "no", at: now.addingTimeInterval(3600))
    #expect(late == now.addingTimeInterval(3601))
    _ = book.decide([job], at: now.addingTimeInterval(3601), in: .gmt)
    book.open([job], at: now.addingTimeInterval(3700))
    let decided15 = book.decide([job], at: now.addingTimeInterval(3700), in: .gmt)
    #expect(Self.orders(decided15).count == 1)
    // It had run for an hour before it failed once; neither the death of its host nor being told to end is a failure of its own.
    #expect(book.jobs["log"]?.failures == 1)
    #expect(book.standing(of: [job], at: now.addingTimeInterval(3730)).jobs["log"]?.failures == 1)
    #expect(book.standing(of: [job], at: now.addingTimeInterval(3770)).jobs["log"]?.failures == 0)
    book.end(job, .interrupted, "it was told to end", at: now.addingTimeInterval(3800))
    #expect(book.jobs["log"]?.failures == 1 && book.jobs["log"]?.lastError == "no")
  }

  @Test(
    "A year of an hourly backup that fails one time in three, with a host that is down a day a month: no gap of two hours else"
  )
  func year() throws {
    let job = try Self.job(attempts: 5)
    var book = ScheduleBook()
    var now = Self.at(0.5)
    book.open([job], at: now)
    let end = Self.at(24 * 365)
    var random = SeededGenerator(seed: 6)
    var successes: [Date] = []
    var nextOutage = Self.at(24 * 30)
    while let next = book.next([job], after: now, in: .gmt), next < end {
      now = next
      if now >= nextOutage {
        now = nextOutage.addingTimeInterval(86_400)
        nextOutage = now.addingTimeInterval(29 * 86_400)
        book.open([job], at: now)
      }
      for _ in Self.orders(book.decide([job], at: now, in: .gmt)) {
        let isGood = random.next() % 3 != 0
        now = now.addingTimeInterval(300)
        book.end(job, isGood ? .succeeded : .failed, isGood ? nil : "injected", at: now)
        if isGood { successes.append(now) }
      }
    }
    #expect(successes.count > 8300)
    let gaps = zip(successes, successes.dropFirst()).map { $1.timeIntervalSince($0) }
    // A day a month, and what fails five times at once, one in 243.
    #expect(gaps.filter { $0 > 86_400 }.count == 12)
    #expect(gaps.filter { $0 > 2 * 3600 && $0 < 86_400 }.count < 80)
    #expect(gaps.sorted()[gaps.count * 98 / 100] < 2 * 3600)
  }
}

private struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (state ^ state >> 31) >> 8
  }
}
