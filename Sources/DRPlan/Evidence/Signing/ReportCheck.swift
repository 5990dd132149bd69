public import DRCore

/// Whether reports are what was signed, and none is missing between them. Offline: nothing but the files and the key is asked.
public struct ReportCheck: Sendable {
  /// From elsewhere than the reports.
  public var key: ReportVerifyingKey
  /// The SHA-256 of the report before the first one, where it is not the first of its history.
  public var after: String?
  /// The SHA-256 of the newest report, as it was noted elsewhere: without it nobody can see that the last ones were removed.
  public var head: String?

  public init(key: ReportVerifyingKey, after: String? = nil, head: String? = nil) {
    self.key = key
    self.after = after
    self.head = head
  }

  /// - Parameter files: In any order.
  public func findings(_ files: [ReportFiles]) -> [Finding] {
    var findings: [Finding] = []
    var read: [(name: String, report: RunReport, digest: String)] = []
    for file in files {
      do {
        let report = try RunReport(json: file.report, object: "\(file.name).json")
        findings.append(
          Finding("report-format", .passed, subject: file.name, evidence: "it follows its format: \(report.sentence)"))
        findings += signature(of: file, report)
        read.append((file.name, report, file.report.sha256))
      } catch {
        findings.append(
          Finding(
            "report-format", .failure, subject: file.name, evidence: DRError.text(of: error),
            advice: "do not rely on it"))
      }
    }
    return findings + chain(read.sorted { ($0.report.number ?? 0, $0.name) < ($1.report.number ?? 0, $1.name) })
  }

  private func signature(of file: ReportFiles, _ report: RunReport) -> [Finding] {
    func finding(_ check: String, _ severity: Finding.Severity, _ evidence: String) -> Finding {
      Finding(
        check, severity, subject: file.name, evidence: evidence,
        advice: severity == .failure ? "do not rely on it: see who could write it" : nil)
    }
    guard let envelope = file.envelope else { return [finding("report-signature", .failure, "it is not signed")] }
    let statement: ReportStatement
    do {
      statement = try ReportStatement(
        json: SignedStatement(json: envelope, object: file.name + ReportFiles.envelopeEnding).verified(by: key))
    } catch {
      return [finding("report-signature", .failure, DRError.text(of: error))]
    }
    var findings = [finding("report-signature", .passed, "signed by the key \(key.id.prefix(16))")]
    let contents = [("json", file.report)] + file.renderings.sorted { $0.key < $1.key }
    for (ending, content) in contents {
      let name = "\(file.name).\(ending)"
      let signed = statement.subject.first { $0.name == name }?.digest["sha256"]
      let isRight = signed == content.sha256
      findings.append(
        finding(
          "report-subject", isRight ? .passed : .failure,
          isRight
            ? "\(name) is what was signed"
            : signed.map { "\(name) has the SHA-256 \(content.sha256), signed was \($0)" } ?? "\(name) was not signed"))
    }
    let there = Set(contents.map { "\(file.name).\($0.0)" })
    for name in statement.subject.map(\.name) where !there.contains(name) {
      // What is for people can be made anew from the report.
      findings.append(finding("report-subject", .notice, "\(name) was signed, and is not here"))
    }
    if statement.predicate != ReportStatement.Predicate(report) {
      findings.append(finding("report-subject", .failure, "what was signed says something else of it than it does"))
    }
    return findings
  }

  private func chain(_ reports: [(name: String, report: RunReport, digest: String)]) -> [Finding] {
    guard let first = reports.first, let last = reports.last else { return [] }
    func broken(_ subject: String, _ evidence: String, _ advice: String) -> Finding {
      Finding("report-chain", .failure, subject: subject, evidence: evidence, advice: advice)
    }
    var findings: [Finding] = []
    if first.report.previous != after {
      let place = first.report.number.map { "it is number \($0) of its history" } ?? "it is in no history"
      findings.append(
        broken(
          first.name, "\(place), and the report before it is not \(after ?? "here")",
          "check all reports from the first one on, or say after which one (--after SHA-256)"))
    }
    for (former, next) in zip(reports, reports.dropFirst())
    where next.report.previous != former.digest || next.report.number != former.report.number.map({ $0 + 1 }) {
      let numbers = [former, next].map { $0.report.number.map(String.init) ?? "none" }
      findings.append(
        broken(
          next.name,
          "the report before it is \(next.report.previous ?? "none"), and \(former.name) is \(former.digest); their numbers: "
            + numbers.joined(separator: ", "), "a report was removed or changed between them"))
    }
    if let head, last.digest != head {
      findings.append(
        broken(last.name, "the newest one was to be \(head), and is \(last.digest)", "the last reports were removed"))
    }
    guard findings.isEmpty else { return findings }
    let end = head == nil ? "; whether it is the newest was not checked (--head)" : ""
    return [
      Finding(
        "report-chain", .passed, subject: first.name == last.name ? first.name : "\(first.name) to \(last.name)",
        evidence: "\(reports.count) reports, each after the one before; the last is \(last.digest)\(end)")
    ]
  }
}
