/// What a verifier saw.
///
/// A check that failed is a finding with severity ``Severity/failure``; a verifier throws only when it could not look.
public struct Finding: Hashable, Sendable, Codable, CustomStringConvertible {
  public enum Severity: String, Sendable, Codable, Comparable {
    /// Looked at, and as it should be.
    case passed
    /// Worth knowing; nothing is wrong.
    case notice
    /// It was not looked at; the evidence says why. Never a pass.
    case notChecked = "not checked"
    /// Something is not as it should be, but a restore would still work.
    case warning
    /// It was to be looked at and could not be; the evidence says what stood in the way. Nothing is known of it.
    case couldNotVerify = "could not verify"
    /// A restore would not give what was promised.
    case failure

    private var rank: Int {
      switch self {
      case .passed: 0
      case .notice: 1
      case .notChecked: 2
      case .warning: 3
      case .couldNotVerify: 4
      case .failure: 5
      }
    }

    public static func < (left: Severity, right: Severity) -> Bool { left.rank < right.rank }
  }

  /// The stable name of the check, for example `artifact-digest`.
  public var check: String
  public var severity: Severity
  /// What was looked at: an artifact, a segment, a table.
  public var subject: String
  /// What was seen, with the figures.
  public var evidence: String
  /// What to do about it.
  public var advice: String?

  public init(_ check: String, _ severity: Severity, subject: String, evidence: String, advice: String? = nil) {
    self.check = check
    self.severity = severity
    self.subject = subject
    self.evidence = evidence
    self.advice = advice
  }

  public var description: String {
    let seen = "\(severity.rawValue) \(check) \(subject): \(evidence)"
    return advice.map { seen.followed(by: "What to do: \($0)") } ?? seen
  }
}
