import DRCore
public import Foundation
public import Logging

/// Carries out a recovery plan: as wide as what its steps need allows, by priority, with each step's start and end in a journal, so that a
/// run that was killed goes on where it was.
///
/// | killed | the next run of the same journal |
/// | --- | --- |
/// | before a step's start is in the journal | begins it |
/// | between its start and its end | does it again: an action comes to the same end then |
/// | after its end is in the journal | does not repeat it |
/// | while it was taken back, or behind that | does it again, and what was done on top of it |
///
/// A step that fails keeps what needs it from being done, and nothing else.
public struct RecoveryRun: Sendable {
  /// What is told while it runs.
  public enum Event: Sendable {
    case started(step: String, attempt: Int)
    case failed(step: String, attempt: Int, error: String, isLast: Bool)
    case ended(RecoveryReport.Entry)
  }

  public let plan: RecoveryPlan
  /// Where the journal is; nil: none, and a run that is killed begins anew.
  public var journal: RecoveryJournal?
  /// How many steps run side by side.
  public var width = 8
  /// Say what would be done, and do nothing.
  public var isDryRun = false
  /// The moment of the disaster, from which the time to recover is counted; nil: the beginning of the run.
  public var since: Date?
  public var clock: RecoveryClock = .system
  public var onEvent: @Sendable (Event) -> Void = { _ in }

  public init(_ plan: RecoveryPlan, journal: RecoveryJournal? = nil) {
    self.plan = plan
    self.journal = journal
  }

  /// Runs it to its end.
  ///
  /// When the task is cancelled, steps that run are cancelled, and those that were done are taken back, the last one first, where they have
  /// a compensation; the report says so.
  ///
  /// - Returns: What was done and what was not; look at ``RecoveryReport/verdict``.
  /// - Throws: ``DRCore/DRError`` only if it cannot begin, or cannot write its journal: `invalidConfiguration` for the journal of another plan.
  public func run(logger: Logger) async throws -> RecoveryReport {
    let begun = clock.now()
    var former: [String: RecoveryReport.Entry] = [:]
    var since = since ?? begun
    // Clocks of two hosts may differ a little; by more, the time to recover would come out too short.
    guard since <= begun.addingTimeInterval(60) else {
      throw DRError(
        .invalidConfiguration, "the disaster is said to be at \(Timestamp.format(since)), which is to come",
        advice: "say when it was: the time to recover counts from there", object: plan.name)
    }
    if let journal, !isDryRun {
      let opened = try journal.open(plan, at: begun, since: since)
      (former, since) = (opened.entries, opened.since)
    }
    defer { journal?.end() }
    var report = RecoveryReport(plan: plan, since: since, begun: begun, isDryRun: isDryRun)
    for step in plan.steps {
      if var entry = former[step.id] {
        entry.isFromJournal = true
        report.entries[step.id] = entry
      }
    }
    let outcome = MutableBox(report)
    try await withThrowingTaskGroup(of: RecoveryReport.Entry.self) { group in
      var running: Set<String> = []
      while true {
        let state = outcome.value
        let ready = plan.ordered.filter { step in
          state.entries[step.id] == nil && !running.contains(step.id)
            && step.needs.allSatisfy { state.entries[$0]?.outcome.isDone ?? false }
        }
        for step in ready.prefix(max(0, width - running.count)) where !Task.isCancelled {
          running.insert(step.id)
          group.addTask { try await perform(step, logger) }
        }
        guard let entry = try await group.next() else { break }
        running.remove(entry.step)
        outcome.withLock { $0.entries[entry.step] = entry }
        onEvent(.ended(entry))
      }
    }
    report = outcome.value
    if Task.isCancelled {
      report.wasCancelled = true
      // Not cancelled with the run.
      let undone = report
      report = await Task { await compensate(undone, logger) }.value
    }
    report.ended = clock.now()
    if report.isRepetition {
      // It was then that it was shown, not now.
      report.begun = report.entries.values.map(\.started).min() ?? begun
      report.ended = report.entries.values.compactMap(\.ended).max() ?? report.ended
    }
    return report
  }

  private func perform(_ step: RecoveryPlan.Step, _ logger: Logger) async throws -> RecoveryReport.Entry {
    var entry = RecoveryReport.Entry(step: step.id, started: clock.now())
    guard !isDryRun else {
      entry.outcome = .planned
      entry.evidence = step.action.summary
      entry.ended = entry.started
      return entry
    }
    try journal?.write(.started(step.id, entry.started))
    if let condition = step.condition {
      do {
        _ = try await clock.limited(step.limit, condition.perform)
      } catch let error as DRError where error.isNo && !Task.isCancelled {
        entry.outcome = .skipped
        entry.evidence = "not needed: \(DRError.text(of: error))"
      } catch {
        // What could not be asked is no answer: a step that is skipped looks like one that is done.
        entry.outcome = Task.isCancelled ? .cancelled : .failed
        entry.evidence = "whether it is needed could not be found out: \(DRError.text(of: error))"
      }
    }
    while entry.outcome == .notDone {
      entry.attempts += 1
      onEvent(.started(step: step.id, attempt: entry.attempts))
      do {
        entry.evidence = try await clock.limited(step.limit, step.action.perform)
        entry.outcome = .done
      } catch {
        let text = Task.isCancelled ? "the run was told to end" : DRError.text(of: error)
        let isLast = entry.attempts >= step.attempts || Task.isCancelled
        logger.log(
          level: Task.isCancelled ? .notice : .error, "a step failed",
          metadata: ["step": "\(step.id)", "error": "\(text)"])
        onEvent(.failed(step: step.id, attempt: entry.attempts, error: text, isLast: isLast))
        entry.evidence = text
        if isLast {
          entry.outcome = Task.isCancelled ? .cancelled : .failed
        } else {
          try? await clock.sleep(step.pause.duration)
          if Task.isCancelled { entry.outcome = .cancelled }
        }
      }
    }
    entry.ended = clock.now()
    try journal?.write(.ended(entry))
    return entry
  }

  private func compensate(_ report: RecoveryReport, _ logger: Logger) async -> RecoveryReport {
    var report = report
    let done = plan.ordered.reversed().filter { report.entries[$0.id]?.outcome == .done }
    for step in done {
      guard let compensation = step.compensation, var entry = report.entries[step.id] else { continue }
      do {
        try journal?.write(.takingBack(step.id, clock.now()))
        entry.evidence = try await clock.limited(step.limit, compensation.perform)
        entry.outcome = .takenBack
      } catch {
        logger.error("a step was not taken back", metadata: ["step": "\(step.id)", "error": "\(error)"])
        entry.evidence = "could not be taken back: \(DRError.text(of: error))"
      }
      report.entries[step.id] = entry
      do {
        try journal?.write(.ended(entry))
      } catch {
        logger.error("the journal cannot be written", metadata: ["error": "\(error)"])
      }
    }
    return report
  }
}

extension DRError {
  /// Whether an action that was asked has looked, and says no.
  fileprivate var isNo: Bool { code == .programFailed || code == .sourceFailed }
}

/// What time it is, and how to wait: the system's, or a simulated one that does not wait.
public struct RecoveryClock: Sendable {
  public var now: @Sendable () -> Date
  public var sleep: @Sendable (Duration) async throws -> Void
  private var limit: @Sendable (Duration, @escaping @Sendable () async throws -> String) async throws -> String

  public static let system = RecoveryClock(
    now: { Date() }, sleep: { try await Task.sleep(for: $0) },
    limit: { limit, body in try await withTimeLimit(limit, "the step") { try await body() } })

  /// A clock that goes on only by what sleeps on it.
  public static func simulated(from moment: Date) -> RecoveryClock {
    let time = MutableBox(moment)
    return RecoveryClock(
      now: { time.value }, sleep: { duration in time.withLock { $0 += duration / .seconds(1) } },
      limit: { _, body in try await body() })
  }

  func limited(_ span: Span, _ body: @escaping @Sendable () async throws -> String) async throws -> String {
    try await limit(span.duration, body)
  }
}
