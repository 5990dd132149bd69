public import DRCore
public import DRVerify

public import struct Foundation.Date

extension RunReport {
  /// The report of a recovery that ran.
  ///
  /// - Parameters:
  ///   - detected: When the disaster was noticed, and `decided`, when the recovery was decided on. The phases that end with them are
  ///     "not executed" where it is not known.
  ///   - phase: To which phase a step belongs.
  ///   - objectives: What was promised of each component; a component that has steps and no objective is only measured.
  ///   - recovered: Where each component is now.
  ///   - lost: What was lost of each component: from the newest position that could be recovered to the disaster.
  /// - Throws: As ``init(_:of:by:from:to:disaster:targetMoment:phases:components:rto:rpo:findings:suppressions:versions:obstacle:)``.
  public init(
    of recovery: RecoveryReport, by: Operator, detected: Date? = nil, decided: Date? = nil, targetMoment: Date? = nil,
    phase: (RecoveryPlan.Step) -> Phase.Kind = { _ in .recovery }, objectives: [Component: Objective] = [:],
    recovered: [Component: RecoveryPoint] = [:], lost: [Component: Span] = [:], platform: Objective? = nil,
    findings: [Finding] = [], suppressions: [Suppression] = [], versions: [String: String] = [:]
  ) throws {
    let plan = recovery.plan
    let phases = RunReport.phases(of: recovery, detected: detected, decided: decided, phase: phase)
    let parts = Dictionary(grouping: plan.steps.filter { $0.component != nil }, by: \.component)
    let components = Set(plan.steps.compactMap(\.component)).union(objectives.keys).sorted { "\($0)" < "\($1)" }
    let measured = components.map { component in
      let steps = parts[component] ?? []
      let ends = steps.compactMap { step in
        recovery.entries[step.id].flatMap { $0.outcome == .done || $0.outcome == .skipped ? $0.ended : nil }
      }
      // One that is not back has no time.
      let isBack = !steps.isEmpty && ends.count == steps.count && !recovery.isDryRun
      let time = isBack ? ends.max().map { Span.seconds(max(0, $0.timeIntervalSince(recovery.since))) } : nil
      let objective = objectives[component]
      return Recovered(
        component, rto: Measure(time, of: objective.map { Span($0.rto) }),
        rpo: Measure(lost[component], of: objective.map { Span($0.rpo) }), at: recovered[component])
    }
    // Told to end, it takes back what can be taken back: what is done still was not.
    let standing = plan.ordered.filter { step in
      recovery.wasCancelled && step.compensation != nil && recovery.entries[step.id]?.outcome == .done
    }.map { step in
      Finding(
        "step-taken-back", .failure, subject: step.id, evidence: recovery.entries[step.id]?.evidence ?? "",
        advice: "take it back by hand, or run the same command again, which goes on")
    }
    let isDone = plan.steps.allSatisfy {
      recovery.entries[$0.id]?.outcome.executed.map { $0 == .done || $0 == .skipped } ?? false
    }
    try self.init(
      .recovery, of: Plan(plan.name, digest: plan.fingerprint), by: by, from: recovery.begun,
      to: max(recovery.begun, recovery.ended), disaster: recovery.since, targetMoment: targetMoment, phases: phases,
      components: measured,
      rto: Measure(isDone ? recovery.elapsed : nil, of: platform.map { Span($0.rto) } ?? plan.budget),
      rpo: Measure(components.isEmpty ? nil : lost.values.max(), of: platform.map { Span($0.rpo) }),
      findings: standing + findings, suppressions: suppressions, versions: versions)
  }

  /// The phases of a recovery that ran.
  ///
  /// - Parameters:
  ///   - detected: When the disaster was noticed, and `decided`, when the recovery was decided on. The phases that end with them are
  ///     "not executed" where it is not known.
  ///   - phase: To which phase a step belongs.
  ///   - parts: What was done within a step, by the step's name; it stands after it.
  public static func phases(
    of recovery: RecoveryReport, detected: Date? = nil, decided: Date? = nil,
    phase: (RecoveryPlan.Step) -> Phase.Kind = { _ in .recovery }, parts: [String: [Step]] = [:]
  ) -> [Phase] {
    let plan = recovery.plan
    let critical = Set(recovery.criticalPath)
    let reasons = Dictionary(uniqueKeysWithValues: recovery.notExecuted.map { ($0.step, $0.because) })
    func step(_ step: RecoveryPlan.Step) -> Step {
      guard let entry = recovery.entries[step.id], let outcome = entry.outcome.executed else {
        return Step(
          step.id, step.title, of: step.component, budget: step.budget, .notExecuted,
          evidence: reasons[step.id] ?? "it was a dry run")
      }
      return Step(
        step.id, step.title, of: step.component, from: entry.started, to: entry.ended, budget: step.budget, outcome,
        isCritical: critical.contains(step.id), evidence: entry.evidence)
    }
    let byPhase = Dictionary(grouping: plan.ordered, by: phase)
    var phases: [Phase] = []
    for kind in Phase.Kind.allCases {
      let steps = (byPhase[kind] ?? []).flatMap { [step($0)] + (parts[$0.id] ?? []) }
      let known: (from: Date, to: Date)? =
        switch kind {
        case .detection: detected.map { (recovery.since, $0) }
        case .decision: detected.flatMap { from in decided.map { (from, $0) } }
        default: nil
        }
      if let known {
        phases.append(Phase(kind, from: known.from, to: known.to, steps: steps))
      } else if !steps.isEmpty {
        phases.append(Phase(kind, steps: steps))
      } else if kind == .detection || kind == .decision {
        phases.append(Phase(kind, notExecuted: "the run was not told when"))
      }
    }
    return phases
  }
}

extension RecoveryReport.Outcome {
  /// Nil for what was not done at all.
  fileprivate var executed: RunReport.Step.Outcome? {
    switch self {
    case .done: .done
    case .skipped: .skipped
    case .failed: .failed
    case .cancelled: .cancelled
    case .takenBack: .takenBack
    case .planned, .notDone: nil
    }
  }
}
