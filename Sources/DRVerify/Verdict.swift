public import DRCore
public import Logging

/// What a verification comes to. A check that did not run never looks like one that passed.
public enum Verdict: String, Sendable, Codable {
  case passed
  case failed
  /// It could not look: nothing is known.
  case couldNotVerify = "could not verify"
  /// Nobody asked for it.
  case notConfigured = "not configured"

  /// 0 verified, 1 not verified, 2 could not run.
  public var exitCode: Int32 {
    switch self {
    case .passed: 0
    case .failed: 1
    case .couldNotVerify, .notConfigured: 2
    }
  }
}

/// What a verifier saw, and what it comes to.
public struct VerificationReport: Sendable {
  /// What was verified.
  public var subject: String
  public var findings: [Finding]
  /// Why it could not look, if it could not.
  public var obstacle: String?
  public var duration: Duration

  public init(subject: String, findings: [Finding], obstacle: String? = nil, duration: Duration) {
    self.subject = subject
    self.findings = findings
    self.obstacle = obstacle
    self.duration = duration
  }

  /// Failed if any finding is a failure; could not verify if it could not look, or if no check ran at all.
  public var verdict: Verdict {
    if findings.contains(where: { $0.severity == .failure }) { return .failed }
    guard obstacle == nil, findings.contains(where: { $0.severity == .passed }) else { return .couldNotVerify }
    return .passed
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
