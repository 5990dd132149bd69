public import DRCore
public import Logging

/// What a verifier saw, and what it comes to.
public struct VerificationReport: Sendable {
  /// What was verified.
  public var subject: String
  public var findings: [Finding]
  /// Taken out of the findings, each with its reason.
  public var suppressed: [SuppressedFinding] = []
  /// Why it could not look, if it could not.
  public var obstacle: String?
  public var duration: Duration

  public init(subject: String, findings: [Finding], obstacle: String? = nil, duration: Duration) {
    self.subject = subject
    self.findings = findings
    self.obstacle = obstacle
    self.duration = duration
  }

  /// Failed if any finding is a failure; could not verify if it could not look, at all or at something, or if no check
  /// passed.
  public var verdict: Verdict {
    if findings.contains(where: { $0.severity == .failure }) { return .failed }
    guard obstacle == nil, !findings.contains(where: { $0.severity == .couldNotVerify }),
      findings.contains(where: { $0.severity == .passed })
    else { return .couldNotVerify }
    return .passed
  }

  /// The verdict, and how much it rests on: a partial run says so.
  public var sentence: String {
    let counts: [(Int, String)] = [
      (count(.failure), "failed"), (count(.couldNotVerify), "could not be looked at"), (count(.warning), "warnings"),
      (count(.passed), "passed"), (count(.notChecked), "not checked"), (suppressed.count, "suppressed"),
    ]
    let said = counts.filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
    return "\(verdict.rawValue): \(said.isEmpty ? "no check ran" : said)" + (obstacle.map { "; \($0)" } ?? "")
  }

  private func count(_ severity: Finding.Severity) -> Int { findings.count { $0.severity == severity } }

  /// Moves what is suppressed out of the findings. A suppression that nothing answers to is a notice: it may have outlived its
  /// reason.
  public func suppressing(_ suppressions: [Suppression]) -> VerificationReport {
    var report = self
    report.findings = []
    var used: Set<Suppression> = []
    for finding in findings {
      guard let suppression = suppressions.first(where: { $0.covers(finding) }) else {
        report.findings.append(finding)
        continue
      }
      used.insert(suppression)
      report.suppressed.append(SuppressedFinding(finding, reason: suppression.reason))
    }
    for suppression in suppressions where !used.contains(suppression) {
      report.findings.append(
        Finding(
          "suppression", .notice, subject: "\(suppression.check) \(suppression.subject)",
          evidence: "it suppressed nothing; its reason is: \(suppression.reason)", advice: "remove it"))
    }
    return report
  }

  /// Runs a verifier.
  public static func run(_ subject: String, _ verifier: any Verifier, logger: Logger) async -> VerificationReport {
    let start = ContinuousClock.now
    do {
      let findings = try await verifier.verify(logger: logger)
      return VerificationReport(subject: subject, findings: findings, duration: start.duration(to: .now))
    } catch {
      return VerificationReport(
        subject: subject, findings: [], obstacle: "\(error)", duration: start.duration(to: .now))
    }
  }
}
