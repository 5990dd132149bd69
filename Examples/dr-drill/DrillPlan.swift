import DRCore
import DRPlan
import Foundation
import PlatformSupport

/// What is done after the disaster, as a recovery plan: noticed, decided on, the configuration first, then every other system side by side;
/// once all of them answer they are verified, restored once more to the latest, and held against damaged copies.
///
/// The plan does not change with the moment, nor with the data: its fingerprint is that of the procedure.
struct DrillPlan: Sendable {
  static let name = "dr-drill"

  let run: DrillRun
  let systems: [any DrillSystem]
  let watch: DrillWatch
  let moment: Date
  /// By step.
  let records: MutableBox<[String: DrillRecord]>

  /// What a step is for; its name begins with it.
  enum Stage: String, CaseIterable {
    case detect, decide, recover, verify, latest, control

    init?(_ step: String) { self.init(rawValue: String(step.prefix { $0 != "-" })) }

    var phase: RunReport.Phase.Kind {
      switch self {
      case .detect: .detection
      case .decide: .decision
      case .recover: .recovery
      case .verify, .latest: .verification
      case .control: .negativeControl
      }
    }
  }

  static func phase(of step: RecoveryPlan.Step) -> RunReport.Phase.Kind { Stage(step.id)?.phase ?? .recovery }

  func make() throws -> RecoveryPlan {
    var steps = [detection, decision]
    let first = systems.filter { $0.component.kind == .config }
    for system in systems {
      let needs = first.isEmpty || system.component.kind == .config ? ["decide"] : first.map { id(.recover, $0) }
      let budget = Span(run.options.objective(of: system.component.kind).rto)
      steps.append(
        step(.recover, system, "brought back to the moment", after: needs, budget: budget) { [moment] run in
          try await system.recover(to: moment, run)
        })
    }
    // None of it before all are back: it would keep the others from coming back.
    let all = systems.map { id(.recover, $0) }
    for system in systems {
      let budget = Span(max(DrillTargets.of(system.component.kind).rto * 4, .seconds(3600)))
      steps += [
        step(.verify, system, "verified", after: all, budget: budget) { [moment] run in
          try await system.verify(moment, run)
        },
        step(.latest, system, "brought back to the latest", after: [id(.verify, system)], budget: budget) { run in
          try await system.recoverLatest(run)
        },
        step(.control, system, "held against what is damaged", after: [id(.latest, system)], budget: budget) { run in
          try await run.measure(system, "the verifier, on what is whole and on what is damaged") {
            try await system.refuseDamage(run)
          }
        },
      ]
    }
    return try RecoveryPlan(DrillPlan.name, budget: Span(DrillTargets.platform.rto * 4), steps: steps)
  }

  private var detection: RecoveryPlan.Step {
    let watch = watch
    return RecoveryPlan.Step(
      Stage.detect.rawValue, "The disaster is noticed", priority: .critical, budget: .minutes(1),
      action(Stage.detect.rawValue, "wait for the incident \(DrillWatch.incident)") { run in
        let since = run.disaster.value ?? .distantPast
        let opened = try await watch.noticed(since: since)
        run.note { $0.incident = opened }
        let taken = Span.seconds(opened.opened.timeIntervalSince(since))
        return
          "\(opened.severity) \(opened.incident) after \(taken), by \(opened.symptoms.keys.sorted().joined(separator: ", ")); "
          + "the plan is \(opened.plan)"
      })
  }

  private var decision: RecoveryPlan.Step {
    let id = Stage.decide.rawValue
    guard let limit = run.options.ask else {
      return RecoveryPlan.Step(
        id, "The recovery is decided on", after: [Stage.detect.rawValue], priority: .critical, budget: .minutes(1),
        action(id, "by policy, at once") { _ in "by policy, at once" })
    }
    let ask = AskAction("\(DrillWatch.incident): bring the platform back?", by: TerminalQuestion.ask)
    return RecoveryPlan.Step(
      id, "The recovery is decided on", after: [Stage.detect.rawValue], priority: .critical, budget: .seconds(limit),
      limit: .seconds(limit), action(id, ask.summary) { _ in try await ask.perform() })
  }

  private func id(_ stage: Stage, _ system: any DrillSystem) -> String {
    "\(stage.rawValue)-\(system.component.kind.rawValue)"
  }

  private func step(
    _ stage: Stage, _ system: any DrillSystem, _ what: String, after needs: [String], budget: Span,
    _ body: @escaping @Sendable (DrillRun) async throws -> Void
  ) -> RecoveryPlan.Step {
    RecoveryPlan.Step(
      id(stage, system), "\(system.component.kind.rawValue): \(what)", of: system.component, after: needs,
      priority: run.options.objective(of: system.component.kind).priority, budget: budget,
      action(id(stage, system), "\(stage.rawValue) \(system.component)") { run in
        try await body(run)
        return run.record.summary
      })
  }

  /// With a record of its own, that is durable before the journal says that the step is done.
  private func action(
    _ step: String, _ summary: String, _ body: @escaping @Sendable (DrillRun) async throws -> String
  ) -> CustomAction {
    let (run, records) = (run, records)
    return CustomAction(summary) {
      let run = run.anew
      defer { records.withLock { $0[step] = run.record } }
      let evidence = try await body(run)
      try run.folder.record.write(run.record, as: DrillFolderRecord.step(step))
      return evidence
    }
  }
}
