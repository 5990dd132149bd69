import DRCore
public import DRPlan
import ExampleSupport
public import Foundation
import Logging

/// A recovery plan as a person carries it out: shown, or run with its journal, step by step on the terminal.
public struct RecoverySession: Sendable {
  public var plan: RecoveryPlan
  /// Nil shows the plan and does nothing.
  public var journal: String?
  public var width = 8
  /// The moment of the disaster.
  public var since: Date?

  public init(_ plan: RecoveryPlan, journal: String?, width: Int = 8, since: Date? = nil) {
    self.plan = plan
    self.journal = journal
    self.width = width
    self.since = since
  }

  /// Runs it to its end, and says what was done, what was not, and how long it took.
  ///
  /// - Parameter around: Does the run, by the body that it is given, and more: it tells people, say.
  /// - Returns: The report; look at its verdict. Of a dry run nothing was done.
  /// - Throws: An `ExitCode` of 128 and more if a signal ended it.
  public func run(
    _ program: String,
    around:
      @escaping @Sendable (RecoveryRun, @escaping @Sendable (RecoveryRun) async throws -> RecoveryReport)
      async throws -> RecoveryReport = { try await $1($0) }
  ) async throws -> RecoveryReport {
    var run = RecoveryRun(plan, journal: journal.map { RecoveryJournal(at: $0) })
    run.isDryRun = journal == nil
    run.width = width
    run.since = since
    run.onEvent = Self.say
    let logger = ProgramLog.make(program, verbose: false)
    let report = try await endingInGoodOrder(
      saying: "the journal says what was done, and the same command goes on with it"
    ) { [run] in
      let report = try await around(run) { try await $0.run(logger: logger) }
      guard report.wasCancelled else { return report }
      for step in plan.ordered {
        if let entry = report.entries[step.id] { print("\(step.id): \(entry.outcome.rawValue): \(entry.evidence)") }
      }
      throw CancellationError()
    }
    for step in plan.ordered {
      guard let entry = report.entries[step.id], entry.outcome == .planned || entry.isFromJournal else { continue }
      print("\(step.id): \(entry.isFromJournal ? "done before" : "would \(entry.evidence)"), budget \(step.budget)")
    }
    for (step, because) in report.notExecuted { print("\(step): NOT EXECUTED, \(because)") }
    let longest = plan.criticalPath { $0.budget.seconds }
    guard !report.isDryRun else {
      print("critical path: \(longest.steps.joined(separator: ", ")), up to \(longest.length) of \(plan.budget)")
      print("nothing was done: this is the plan. --execute --journal FILE carries it out")
      return report
    }
    print("critical path: \(report.criticalPath.joined(separator: ", "))")
    for finding in report.findings where finding.severity == .failure { print(finding) }
    print("\(report.verdict.rawValue): \(report.elapsed) from the disaster to the end, \(plan.budget) allowed")
    return report
  }

  private static func say(_ event: RecoveryRun.Event) {
    switch event {
    case .started(let step, let attempt): print("\(step): begun" + (attempt > 1 ? ", attempt \(attempt)" : ""))
    case .failed(let step, let attempt, let error, let isLast):
      print("\(step): attempt \(attempt) failed: \(error)" + (isLast ? "" : "; trying again"))
    case .ended(let entry) where entry.outcome != .planned:
      print("\(entry.step): \(entry.outcome.rawValue) in \(entry.duration): \(entry.evidence)")
    case .ended: break
    }
  }
}
