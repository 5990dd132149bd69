public import DRCore
public import DRVerify

extension RunReport {
  /// What follows from steps and targets.
  static func implied(
    phases: [Phase], components: [Recovered], platform: (name: String, rto: Measure, rpo: Measure)
  ) -> [Finding] {
    var findings: [Finding] = phases.flatMap(\.steps).compactMap(\.finding)
    for component in components {
      findings += [
        finding(
          "recovery-time", "\(component.component)", component.rto, "from the disaster to its first right answer"),
        finding("recovery-point", "\(component.component)", component.rpo, "of its data were lost"),
      ].compactMap { $0 }
    }
    return findings
      + [
        finding("recovery-time", platform.name, platform.rto, "from the disaster to the end"),
        finding("recovery-point", platform.name, platform.rpo, "of data were lost at most"),
      ].compactMap { $0 }
  }

  private static func finding(_ check: String, _ subject: String, _ measure: Measure, _ what: String) -> Finding? {
    guard let target = measure.target, let actual = measure.actual else { return nil }
    return Finding(
      check, measure.isExceeded ? .failure : .passed, subject: subject,
      evidence: "\(actual) \(what); \(target) is allowed",
      advice: measure.isExceeded ? "find what took the time, or promise what can be kept" : nil)
  }

  /// The suppression that a finding falls under. What is no failure and no warning needs none.
  public func suppression(of finding: Finding) -> Suppression? {
    suppressions.first { $0.covers(finding) }
  }

  /// What fails it.
  public var failures: [Finding] { findings.filter { $0.severity == .failure && suppression(of: $0) == nil } }

  /// What did not run, or was not measured, and why.
  public struct Gap: Hashable, Sendable, CustomStringConvertible {
    public var what: String
    public var reason: String
    /// Whether the report proves too little without it.
    public var isRequired: Bool

    public var description: String { "\(what) (\(reason))" }
  }

  public var notRun: [Gap] {
    var gaps: [Gap] = kind.phases.compactMap { expected in
      let phase = phases.first { $0.kind == expected }
      guard phase == nil || phase?.notExecuted != nil else { return nil }
      return Gap(
        what: expected.rawValue, reason: phase?.notExecuted ?? "it was not part of this run",
        isRequired: kind.required.contains(expected))
    }
    // What was skipped as not needed did not run: it shows nothing.
    for phase in phases where kind.required.contains(phase.kind) && phase.notExecuted == nil && !phase.steps.isEmpty {
      guard phase.steps.allSatisfy({ $0.outcome == .skipped }) else { continue }
      gaps.append(
        Gap(what: phase.kind.rawValue, reason: "each of its steps was skipped as not needed", isRequired: true))
    }
    for step in phases.flatMap(\.steps) where step.outcome == .notExecuted {
      gaps.append(Gap(what: step.title, reason: step.evidence, isRequired: true))
    }
    let measures =
      components.flatMap {
        [("recovery time of \($0.component)", $0.rto), ("recovery point of \($0.component)", $0.rpo)]
      }
      + [("recovery time of everything", rto), ("recovery point of everything", rpo)]
    gaps += measures.filter(\.1.isOpen).map { Gap(what: $0.0, reason: "it was not measured", isRequired: true) }
    return gaps
  }

  public var verdict: Verdict {
    if phases.isEmpty, components.isEmpty, findings.isEmpty, obstacle == nil { return .notConfigured }
    if !failures.isEmpty { return .failed }
    guard obstacle == nil, !notRun.contains(where: \.isRequired),
      !findings.contains(where: { $0.severity == .couldNotVerify }),
      findings.contains(where: { $0.severity == .passed })
    else { return .couldNotVerify }
    return .passed
  }

  /// The verdict in a sentence, which says what did not run.
  public var sentence: String {
    var parts: [String] = []
    if let obstacle { parts.append("it could not look: \(obstacle)") }
    let failures = failures
    if let first = failures.first {
      parts.append(
        "\(failures.count) of \(findings.count) checks failed, the first: \(first.check) of \(first.subject)")
    } else if !findings.isEmpty {
      let passed = findings.count { $0.severity == .passed }
      parts.append("\(passed) of \(findings.count) checks passed")
    }
    let unseen = findings.count { $0.severity == .couldNotVerify }
    if unseen > 0 { parts.append("\(unseen) could not be looked at") }
    if let actual = rto.actual {
      parts.append("back after \(actual.rounded)" + (rto.target.map { " of \($0)" } ?? ""))
    }
    if let actual = rpo.actual {
      parts.append("at most \(actual.rounded) lost" + (rpo.target.map { " of \($0)" } ?? ""))
    }
    let gaps = notRun
    if !gaps.isEmpty { parts.append("not run: \(gaps.map(\.description).joined(separator: ", "))") }
    let suppressed = findings.count { $0.severity == .failure && suppression(of: $0) != nil }
    if suppressed > 0 { parts.append("\(suppressed) failures do not count, for written reasons") }
    if verdict == .notConfigured { parts.append("nothing was asked for") }
    return "\(verdict.rawValue): \(parts.joined(separator: "; "))"
  }
}

extension RunReport.Step {
  /// Nil for one that was not executed or needed: that is no finding.
  fileprivate var finding: Finding? {
    let time = (duration.map { "\($0)" } ?? "") + (budget.map { " of \($0)" } ?? "")
    let seen = [time, evidence].filter { !$0.isEmpty }.joined(separator: ": ")
    switch outcome {
    case .done:
      guard let duration, let budget, duration > budget else {
        return Finding("step-done", .passed, subject: id, evidence: seen)
      }
      return Finding(
        "step-budget", .failure, subject: id, evidence: "done, and it took \(seen)",
        advice: "make it faster, or give it the time that it needs")
    case .failed, .cancelled, .takenBack:
      return Finding(
        "step-done", .failure, subject: id, evidence: "\(outcome.rawValue): \(evidence)",
        advice: "mend the cause, and run it again")
    case .skipped: return Finding("step-done", .notice, subject: id, evidence: evidence)
    case .notExecuted: return nil
    }
  }
}

extension Span {
  /// For people: never less than it is.
  var rounded: Span {
    let step: Double = seconds < 10 ? 0.1 : 1
    return .seconds((seconds / step).rounded(.up) * step)
  }
}
