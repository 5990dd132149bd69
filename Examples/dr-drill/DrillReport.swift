import DRCore
import DRPlan
import DRVerify
import ExampleSupport
import Foundation

/// What the drill measured and saw.
struct DrillReport: Sendable {
  let memory: DrillMemory
  /// In the order in which they were brought back.
  let systems: [Component]
  let recovery: RecoveryReport
  /// By step.
  let records: [String: DrillRecord]
  var cleanUp: RunReport.Step?
  var ended = Date()
  /// Lines to print at the end.
  var notes: [String] = []

  /// Before the disaster, and then in the order of the plan.
  private var ordered: [DrillRecord] { [memory.record] + recovery.plan.ordered.compactMap { records[$0.id] } }

  var checks: [DrillRecord.Check] { ordered.flatMap(\.checks) }

  /// Whether every step was done, whatever it saw.
  var isDone: Bool { recovery.plan.steps.allSatisfy { recovery.entries[$0.id]?.outcome == .done } }

  /// When the disaster was noticed, and when the recovery was decided on.
  var detected: Date? { records[DrillPlan.Stage.detect.rawValue]?.incident?.opened }
  var decided: Date? {
    let entry = recovery.entries[DrillPlan.Stage.decide.rawValue]
    return entry?.outcome == .done ? entry?.ended : nil
  }

  /// From the disaster to the first right answer.
  func recoveryTime(_ component: Component) -> Span? {
    ordered.compactMap { $0.answered[component.kind.rawValue] }.first.map {
      .seconds($0.timeIntervalSince(memory.disaster))
    }
  }

  func loss(_ component: Component) -> Span? {
    ordered.compactMap { $0.losses[component.kind.rawValue] }.first.map { Span($0) }
  }

  var versions: [String: String] { memory.record.versions }

  /// What was measured within a step, from the step's own record.
  func parts(of step: RecoveryPlan.Step, isCritical: Bool) -> [RunReport.Step] {
    (records[step.id]?.phases ?? []).enumerated().map { index, phase in
      RunReport.Step(
        "\(step.id)-\(index + 1)", phase.name, of: step.component, from: phase.started,
        to: phase.started.addingTimeInterval(phase.duration / .seconds(1)), .done, isCritical: isCritical)
    }
  }

  // MARK: For people

  /// - Parameter evidence: The same as a report, from which the verdict follows.
  func print(_ evidence: RunReport) {
    Swift.print("\nPhases (* counts towards the recovery time)")
    line(true, "platform", "noticed", detected.map { Span.seconds($0.timeIntervalSince(memory.disaster)) })
    line(
      true, "platform", "decided",
      detected.flatMap { from in decided.map { Span.seconds($0.timeIntervalSince(from)) } })
    for phase in ordered.flatMap(\.phases) { line(phase.counts, phase.system ?? "", phase.name, Span(phase.duration)) }
    line(false, "platform", "cleaned up", cleanUp?.duration)
    Swift.print("Critical path: \(recovery.criticalPath.joined(separator: ", "))")
    for resumption in memory.resumptions { Swift.print(resumption.sentence) }
    Swift.print("\nChecks")
    for check in checks {
      Swift.print("  \(check.passed ? "ok    " : "FAILED") \(pad(check.system, 10))\(check.name): \(check.detail)")
    }
    for finding in evidence.findings where finding.severity == .failure && finding.check.hasPrefix("step-") {
      Swift.print("  FAILED \(finding.subject): \(finding.evidence)")
    }
    let failed = checks.filter { !$0.passed }.count
    Swift.print(
      "\nVerdict: \(evidence.verdict.rawValue)"
        + (failed > 0 ? " (\(failed) of \(checks.count) checks)" : ", \(checks.count) checks"))
    if evidence.verdict != .passed { Swift.print(evidence.sentence) }
    for note in notes { Swift.print(note) }
  }

  private func line(_ counts: Bool, _ system: String, _ name: String, _ span: Span?) {
    guard let span else { return }
    Swift.print("  \(counts ? "*" : " ") \(pad(system, 10))\(pad(name, 46))\(Format.duration(span.duration))")
  }

  private func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
  }
}

extension DrillMemory.Resumption {
  var sentence: String {
    "Killed after \(Timestamp.format(lastSeen)) and resumed at \(Timestamp.format(at)): the time between counts, and what was done was not repeated"
  }
}
