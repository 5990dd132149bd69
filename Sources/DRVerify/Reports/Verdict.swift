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
