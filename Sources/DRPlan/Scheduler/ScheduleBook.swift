public import Foundation

/// What a scheduler remembers of its jobs, and what it decides from that: no clock and no I/O in it, so a year of it can be run in no time.
///
/// | the scheduler was killed | the next one |
/// | --- | --- |
/// | before a run was entered | finds it due, by the job's policy for missed runs |
/// | while a run went on | tries it again, as after a failure |
/// | after its end was entered | goes on with the next one |
public struct ScheduleBook: Hashable, Sendable, Codable {
  /// A run that is to begin now.
  public struct Order: Hashable, Sendable {
    public var job: String
    /// The time of its schedule.
    public var due: Date
    /// From 1.
    public var attempt: Int
    /// Runs before it for which nobody was there, and which it makes up for.
    public var missed: Int
  }

  public enum Decision: Hashable, Sendable {
    case begin(Order)
    /// Runs were left out, by the job's policy.
    case skipped(job: String, runs: Int, last: Date)
    /// The clock was set back: runs are counted from now on.
    case clockWentBack(job: String, by: Span)
  }

  public enum Outcome: String, Hashable, Sendable, Codable {
    case succeeded, failed
    /// It was ended before it could come to an end.
    case interrupted
  }

  /// What is remembered of one job.
  public struct Entry: Hashable, Sendable, Codable {
    /// A run that goes on, or that is to be tried again.
    public struct Attempt: Hashable, Sendable, Codable {
      public var due: Date
      public var attempt: Int
      /// When it began; of one to come, the earliest moment at which it may.
      public var at: Date
    }

    /// Every run up to this one was dealt with.
    public var handled: Date
    public var running: Attempt?
    public var retry: Attempt?
    public var lastSuccess: Date?
    /// When the run began that succeeded last: what came after that, a verification has not seen.
    public var lastSuccessBegan: Date?
    public var lastFailure: Date?
    /// Why the last attempt failed.
    public var lastError: String?
    /// Since it last succeeded.
    public var failures = 0
    public var missed = 0
  }

  /// By the job's name.
  public internal(set) var jobs: [String: Entry] = [:]

  /// As it stands at a moment: a job that goes on all the time never succeeds, and is in order once it has gone on for a minute.
  public func standing(of wanted: [ScheduledJob], at now: Date) -> ScheduleBook {
    var book = self
    for job in wanted where job.schedule == .always {
      guard let running = jobs[job.id]?.running, now.timeIntervalSince(running.at) > 60 else { continue }
      book.jobs[job.id]?.failures = 0
    }
    return book
  }

  public init() {}

  /// No run is late that begins within so long of its time: a scheduler does not look all the time.
  private static let tolerance = 90.0
  /// More runs than this are not counted.
  private static let counted = 10_000

  /// Begins with jobs: those that are new count from now on; a run that went on under an owner that is gone is to be tried again.
  public mutating func open(_ wanted: [ScheduledJob], at now: Date) {
    let names = Set(wanted.map(\.id))
    jobs = jobs.filter { names.contains($0.key) }
    for job in wanted {
      guard let entry = jobs[job.id] else {
        jobs[job.id] = Entry(handled: now)
        continue
      }
      if entry.running != nil { end(job, .interrupted, "the scheduler was ended while it ran", at: now) }
    }
  }

  /// What is to begin now; it is entered as begun.
  public mutating func decide(_ wanted: [ScheduledJob], at now: Date, in zone: TimeZone) -> [Decision] {
    var decisions: [Decision] = []
    for job in wanted {
      guard var entry = jobs[job.id], entry.running == nil else { continue }
      if entry.handled > now.addingTimeInterval(3600) {
        decisions.append(.clockWentBack(job: job.id, by: .seconds(entry.handled.timeIntervalSince(now))))
        entry.handled = now
        entry.retry = nil
      }
      decisions += decide(job, &entry, at: now, in: zone)
      jobs[job.id] = entry
    }
    return decisions
  }

  private func decide(_ job: ScheduledJob, _ entry: inout Entry, at now: Date, in zone: TimeZone) -> [Decision] {
    func begin(_ due: Date, _ attempt: Int, missed: Int) -> Decision {
      entry.running = Entry.Attempt(due: due, attempt: attempt, at: now)
      entry.retry = nil
      return .begin(Order(job: job.id, due: due, attempt: attempt, missed: missed))
    }
    guard case .cron(let cron) = job.schedule else {
      if let retry = entry.retry { return now >= retry.at ? [begin(retry.due, retry.attempt, missed: 0)] : [] }
      return [begin(now, 1, missed: 0)]
    }
    if let last = latest(job, cron, at: now, in: zone), last > entry.handled {
      let range = entry.handled.addingTimeInterval(0.001)..<last.addingTimeInterval(0.001)
      let runs = Self.count(cron, in: range, zone)
      let late = now.timeIntervalSince(last) - job.delay(at: last.timeIntervalSince1970)
      entry.handled = last
      // A run that waits to be tried again is overtaken by the next one: that captures what it would have.
      if late <= Self.tolerance || job.missed == .catchUp {
        entry.missed += runs - 1
        return [begin(last, 1, missed: runs - 1)]
      }
      entry.missed += runs
      return [.skipped(job: job.id, runs: runs, last: last)]
    }
    guard let retry = entry.retry, now >= retry.at else { return [] }
    return [begin(retry.due, retry.attempt, missed: 0)]
  }

  /// The last time of its schedule whose delay is over.
  private func latest(_ job: ScheduledJob, _ cron: CronExpression, at now: Date, in zone: TimeZone) -> Date? {
    var moment = now.addingTimeInterval(0.001)
    while let run = cron.previous(before: moment, in: zone) {
      if run.addingTimeInterval(job.delay(at: run.timeIntervalSince1970)) <= now { return run }
      guard now.timeIntervalSince(run) <= job.jitter.seconds else { return nil }
      moment = run
    }
    return nil
  }

  private static func count(_ cron: CronExpression, in range: Range<Date>, _ zone: TimeZone) -> Int {
    var (count, moment) = (1, range.upperBound)
    while count < counted, let run = cron.previous(before: moment, in: zone), run >= range.lowerBound {
      if run.addingTimeInterval(0.001) < range.upperBound { count += 1 }
      moment = run
    }
    return count
  }

  /// Enters how an attempt has ended.
  ///
  /// - Returns: When it is tried again; nil: not before its next time.
  @discardableResult
  public mutating func end(_ job: ScheduledJob, _ outcome: Outcome, _ error: String? = nil, at now: Date) -> Date? {
    guard var entry = jobs[job.id], let attempt = entry.running else { return nil }
    entry.running = nil
    let isContinuous = job.schedule == .always
    let hasRun = now.timeIntervalSince(attempt.at) > 300
    switch outcome {
    case .succeeded:
      (entry.lastSuccess, entry.lastSuccessBegan, entry.lastError, entry.failures) = (now, attempt.at, nil, 0)
    case .interrupted where isContinuous:
      // It goes on until it is told to end: that is no failure of its own.
      break
    case .failed, .interrupted:
      (entry.lastFailure, entry.lastError) = (now, error)
      // One that goes on all the time never succeeds: what counts is how often in a row it has not gone on.
      entry.failures = isContinuous && hasRun ? 1 : entry.failures + 1
    }
    if isContinuous {
      // One that ran for long begins with the shortest pause again.
      let next = outcome == .interrupted || hasRun || outcome == .succeeded ? 2 : attempt.attempt + 1
      let pause = outcome == .interrupted ? 0 : job.pause(before: next)
      entry.retry = Entry.Attempt(due: now, attempt: next, at: now.addingTimeInterval(pause))
    } else if outcome == .interrupted {
      // What ended it was no fault of its own, and may be again and again: a job that ends its host is not tried for ever.
      if attempt.attempt < max(job.attempts, 2) {
        entry.retry = Entry.Attempt(due: attempt.due, attempt: attempt.attempt + 1, at: now)
      }
    } else if outcome == .failed, attempt.attempt < job.attempts {
      let pause = job.pause(before: attempt.attempt + 1)
      entry.retry = Entry.Attempt(due: attempt.due, attempt: attempt.attempt + 1, at: now.addingTimeInterval(pause))
    }
    jobs[job.id] = entry
    return entry.retry?.at
  }

  /// The next moment at which there is something to decide.
  public func next(_ wanted: [ScheduledJob], after now: Date, in zone: TimeZone) -> Date? {
    wanted.compactMap { job -> Date? in
      guard let entry = jobs[job.id], entry.running == nil else { return nil }
      var moments = [entry.retry?.at].compactMap { $0 }
      if case .cron(let cron) = job.schedule, let run = cron.next(after: max(entry.handled, now), in: zone) {
        moments.append(run.addingTimeInterval(job.delay(at: run.timeIntervalSince1970)))
      }
      // One whose time has come, and that waits for its delay.
      if case .cron(let cron) = job.schedule, let run = cron.next(after: entry.handled, in: zone), run <= now {
        moments.append(run.addingTimeInterval(job.delay(at: run.timeIntervalSince1970)))
      }
      return moments.min()
    }.min()
  }
}
