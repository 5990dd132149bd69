import DRCore

extension VerificationReport: Encodable {
  private enum Field: String, CodingKey {
    case formatVersion, subject, verdict, sentence, exitCode, seconds, obstacle, findings, suppressed
  }

  /// `formatVersion`, `subject`, `verdict`, `sentence`, `exitCode`, `seconds`, `obstacle` if there was one, `findings` and
  /// `suppressed`, each of these with its `finding` and its `reason`.
  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: Field.self)
    try fields.encode("1.0", forKey: .formatVersion)
    try fields.encode(subject, forKey: .subject)
    try fields.encode(verdict, forKey: .verdict)
    try fields.encode(sentence, forKey: .sentence)
    try fields.encode(verdict.exitCode, forKey: .exitCode)
    try fields.encode(duration / .seconds(1), forKey: .seconds)
    try fields.encodeIfPresent(obstacle, forKey: .obstacle)
    try fields.encode(findings, forKey: .findings)
    try fields.encode(suppressed, forKey: .suppressed)
  }
}
