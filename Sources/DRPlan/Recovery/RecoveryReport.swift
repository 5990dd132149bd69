public import DRCore
public import DRVerify

public import struct Foundation.Date

/// What a recovery did, how long each step took against its budget, and what was not done.
public struct RecoveryReport: Sendable {
  public enum Outcome: String, Hashable, Sendable, Codable {
    case done, skipped, failed, cancelled
    case takenBack = "taken back"
    /// Of a dry run.
    case planned
    case notDone = "not done"

    /// Whether what needs it may go on.
    public var isDone: Bool { self == .done || self == .skipped || self == .planned }
  }

  /// One step.
  public struct Entry: Hashable, Sendable, Codable {
    public var step: String
    public var outcome: Outcome = .notDone
    public var started: Date
    public var ended: Date?
    public var attempts = 0
    /// What was seen, or why it failed.
    public var evidence = ""
    /// It was done by an earlier run of the same journal.
    public var isFromJournal = false

    public init(step: String, started: Date) {
      self.step = step
      self.started = started
    }

    public var duration: Span { .seconds(max(0, ended?.timeIntervalSince(started) ?? 0)) }

    private enum CodingKeys: String, CodingKey { case step, outcome, started, ended, attempts, evidence }
  }

  public let plan: RecoveryPlan
  /// The moment of the disaster.
  public let since: Date
  public internal(set) var begun: Date
  public internal(set) var ended: Date
  public let isDryRun: Bool
  public internal(set) var wasCancelled = false
  /// By step.
  public internal(set) var entries: [String: Entry] = [:]

  init(plan: RecoveryPlan, since: Date, begun: Date, isDryRun: Bool) {
    self.plan = plan
    self.since = since
    self.begun = begun
    self.isDryRun = isDryRun
    ended = begun
  }

  /// From the disaster to the end of the last step.
  public var elapsed: Span { .seconds((entries.values.compactMap(\.ended).max() ?? ended).timeIntervalSince(since)) }

  /// Whether every step of it was done by earlier runs of its journal: nothing was done now.
  public var isRepetition: Bool { !entries.isEmpty && entries.values.allSatisfy(\.isFromJournal) }

  /// When its first step began, in whichever run of its journal: by then it was decided on. Nil: none was begun.
  public var firstStep: Date? { entries.values.map(\.started).min() }

  /// The steps that decided how long it took.
  public var criticalPath: [String] {
    plan.criticalPath { step in
      guard let entry = entries[step.id], entry.outcome != .skipped else { return 0 }
      return entry.duration.seconds
    }.steps
  }

  /// Steps that were not begun, and the one for which each waited.
  public var notExecuted: [(step: String, because: String)] {
    plan.ordered.filter { entries[$0.id] == nil }.map { step in
      let need = step.needs.first { !(entries[$0]?.outcome.isDone ?? false) }
      return (step.id, need.map { "'\($0)' was not done" } ?? "the run was cancelled")
    }
  }

  /// Each step and the whole against its budget.
  public var findings: [Finding] {
    var findings: [Finding] = plan.ordered.map { step in
      guard let entry = entries[step.id] else {
        return Finding(
          "step-done", .failure, subject: step.id,
          evidence: "not executed: " + (notExecuted.first { $0.step == step.id }?.because ?? ""))
      }
      let time = "\(entry.duration) of \(step.budget)"
      switch entry.outcome {
      case .done where entry.duration > step.budget:
        return Finding(
          "step-budget", .failure, subject: step.id, evidence: "done, and it took \(time): \(entry.evidence)",
          advice: "make it faster, or give it the time that it needs")
      case .done: return Finding("step-done", .passed, subject: step.id, evidence: "\(time): \(entry.evidence)")
      case .skipped, .planned: return Finding("step-done", .notice, subject: step.id, evidence: entry.evidence)
      case .failed, .cancelled, .takenBack, .notDone:
        return Finding(
          "step-done", .failure, subject: step.id,
          evidence: "\(entry.outcome.rawValue) after \(entry.attempts) attempts: \(entry.evidence)",
          advice: "mend the cause, and run the plan again with the same journal: what is done is not repeated")
      }
    }
    if !isDryRun {
      let isInTime = elapsed <= plan.budget
      findings.append(
        Finding(
          "recovery-time", isInTime ? .passed : .failure, subject: plan.name,
          evidence: "\(elapsed) from the disaster to the end; \(plan.budget) is allowed"))
    }
    return findings
  }

  /// A dry run proves nothing: it could not verify.
  public var verdict: Verdict {
    if isDryRun { return .couldNotVerify }
    return findings.contains { $0.severity == .failure } ? .failed : .passed
  }
}
