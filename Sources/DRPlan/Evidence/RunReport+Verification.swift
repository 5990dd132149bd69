public import DRCore
public import DRVerify

public import struct Foundation.Date

extension RunReport {
  /// What became of one component in a restore test.
  public struct RestoreTested: Hashable, Sendable {
    public var component: Component
    public var started: Date
    public var ended: Date
    /// From the beginning to its first right answer; nil: it did not come so far.
    public var recovered: Span?
    /// What a restore may take.
    public var objective: Span
    public var findings: [Finding]

    public init(
      _ component: Component, from started: Date, to ended: Date, recovered: Span?, of objective: Span,
      findings: [Finding]
    ) {
      self.component = component
      self.started = started
      self.ended = ended
      self.recovered = recovered
      self.objective = objective
      self.findings = findings
    }
  }

  /// The report of a verification that ran.
  ///
  /// - Throws: As ``init(_:of:by:from:to:disaster:targetMoment:phases:components:rto:rpo:findings:suppressions:versions:obstacle:)``.
  public init(
    of verification: VerificationReport, as plan: Plan, by: Operator, from started: Date, to ended: Date
  ) throws {
    let step = Step(
      "verify", verification.subject, from: started, to: ended, verification.obstacle == nil ? .done : .failed,
      evidence: verification.obstacle ?? verification.sentence)
    try self.init(
      .verification, of: plan, by: by, from: started, to: ended, phases: [Phase(.verification, steps: [step])],
      findings: verification.findings + verification.suppressed.map(\.finding),
      suppressions: try verification.writtenReasons(), obstacle: verification.obstacle)
  }

  /// The report of a restore test: how long each component took to come back, and what was seen of it.
  ///
  /// - Throws: As ``init(_:of:by:from:to:disaster:targetMoment:phases:components:rto:rpo:findings:suppressions:versions:obstacle:)``.
  public init(
    of test: VerificationReport, _ tested: [RestoreTested], as plan: Plan, by: Operator, from started: Date,
    to ended: Date
  ) throws {
    var phases: [Phase] = []
    let kinds: [(kind: Phase.Kind, step: (RestoreTested) -> Step)] = [
      (.recovery, { $0.recovery }), (.verification, { $0.verification }), (.cleanUp, { $0.cleanUp }),
    ]
    for (kind, step) in kinds { phases.append(Phase(kind, steps: tested.map(step))) }
    try self.init(
      .restoreTest, of: plan, by: by, from: started, to: ended, phases: tested.isEmpty ? [] : phases,
      components: tested.map { Recovered($0.component, rto: Measure($0.recovered, of: $0.objective)) },
      findings: test.findings + test.suppressed.map(\.finding), suppressions: try test.writtenReasons(),
      obstacle: test.obstacle)
  }
}

extension RunReport.RestoreTested {
  /// Until it answered; or until it ended, if it never did.
  private var answered: Date { recovered.map { min(ended, started.addingTimeInterval($0.seconds)) } ?? ended }

  private func failures(_ checks: Set<String>? = nil) -> [Finding] {
    findings.filter { $0.severity >= .couldNotVerify && checks?.contains($0.check) ?? true }
  }

  fileprivate var recovery: RunReport.Step {
    let restore = findings.first { $0.check == "restore" }
    return RunReport.Step(
      "restore-\(component.stepName)", "\(component) restored into a sandbox", of: component, from: started,
      to: answered,
      recovered == nil ? .failed : .done, evidence: restore?.evidence ?? "it did not answer")
  }

  fileprivate var verification: RunReport.Step {
    let id = "verify-\(component.stepName)"
    guard recovered != nil else {
      return RunReport.Step(id, "\(component) looked at", of: component, .notExecuted, evidence: "it did not come back")
    }
    let wrong = failures()
    return RunReport.Step(
      id, "\(component) looked at", of: component, from: answered, to: ended, wrong.isEmpty ? .done : .failed,
      evidence: wrong.first.map { "\($0)" } ?? "\(findings.count { $0.severity == .passed }) checks passed")
  }

  fileprivate var cleanUp: RunReport.Step {
    let (id, title) = ("clean-\(component.stepName)", "the sandbox of \(component) removed")
    guard let removed = findings.first(where: { $0.check == "sandbox-removed" }) else {
      return RunReport.Step(id, title, of: component, .skipped, evidence: "nothing is known of it")
    }
    return RunReport.Step(
      id, title, of: component, from: ended, to: ended, removed.severity == .passed ? .done : .failed,
      evidence: removed.evidence)
  }
}

extension Component {
  fileprivate var stepName: String { "\(self)".replacing("/", with: "-").replacing("_", with: "-") }
}

extension VerificationReport {
  /// Of each finding that was taken out.
  fileprivate func writtenReasons() throws -> [Suppression] {
    try suppressed.map { try Suppression(check: $0.finding.check, subject: $0.finding.subject, reason: $0.reason) }
  }
}
