import DRCore

/// Verification reports in the XML that continuous-integration servers read.
///
/// A finding is a test case: a failure is `<failure>`, what could not be looked at is `<error>`, what was not checked or is suppressed is
/// `<skipped>` with its reason. Warnings and notices pass, with what they say in `<system-out>`.
public struct JUnitReport: Sendable {
  private let reports: [VerificationReport]

  public init(_ reports: [VerificationReport]) { self.reports = reports }

  public var xml: String {
    let counts = reports.map(Counts.init).reduce(into: Counts()) { $0.add($1) }
    let seconds = reports.reduce(0) { $0 + $1.duration / .seconds(1) }
    var lines = [
      #"<?xml version="1.0" encoding="UTF-8"?>"#, "<testsuites name=\"dr-verify\" \(counts.attributes(seconds))>",
    ]
    for report in reports {
      lines.append(
        "  <testsuite name=\(quoted(report.subject)) \(Counts(report).attributes(report.duration / .seconds(1)))>")
      lines += report.findings.map(testCase)
      lines += report.suppressed.map { suppressed in
        testCase(
          suppressed.finding.check, suppressed.finding.subject,
          "<skipped message=\(quoted("suppressed: \(suppressed.reason)"))>\(escaped("\(suppressed.finding)"))</skipped>"
        )
      }
      if let obstacle = report.obstacle {
        lines.append(testCase("verification", report.subject, "<error message=\(quoted(obstacle))/>"))
      }
      lines.append("  </testsuite>")
    }
    return (lines + ["</testsuites>", ""]).joined(separator: "\n")
  }

  private func testCase(_ finding: Finding) -> String {
    let more = finding.advice.map { "\(finding.evidence)\nWhat to do: \($0)" } ?? finding.evidence
    let message = quoted(finding.evidence)
    let body =
      switch finding.severity {
      case .failure: "<failure message=\(message)>\(escaped(more))</failure>"
      case .couldNotVerify: "<error message=\(message)>\(escaped(more))</error>"
      case .notChecked: "<skipped message=\(quoted("not checked, because \(finding.evidence)"))/>"
      case .warning, .notice: "<system-out>\(escaped("\(finding.severity.rawValue): \(more)"))</system-out>"
      case .passed: "<system-out>\(escaped(finding.evidence))</system-out>"
      }
    return testCase(finding.check, finding.subject, body)
  }

  private func testCase(_ check: String, _ subject: String, _ body: String) -> String {
    "    <testcase classname=\(quoted(check)) name=\(quoted(subject))>\(body)</testcase>"
  }

  private func quoted(_ text: String) -> String {
    "\"" + escaped(text).replacing("\"", with: "&quot;").replacing("\n", with: "&#10;").replacing("\t", with: "&#9;")
      + "\""
  }

  /// A character that XML cannot hold, which a file's name may, is replaced.
  private func escaped(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result.append(contentsOf: "&amp;".unicodeScalars)
      case "<": result.append(contentsOf: "&lt;".unicodeScalars)
      case ">": result.append(contentsOf: "&gt;".unicodeScalars)
      case "\n", "\t": result.append(scalar)
      case "\r": result.append(contentsOf: "&#13;".unicodeScalars)
      default: result.append(scalar.value < 0x20 || [0xFFFE, 0xFFFF].contains(scalar.value) ? "\u{FFFD}" : scalar)
      }
    }
    return String(result)
  }

  private struct Counts {
    var (tests, failures, errors, skipped) = (0, 0, 0, 0)

    init() {}

    init(_ report: VerificationReport) {
      func count(_ severity: Finding.Severity) -> Int { report.findings.count { $0.severity == severity } }
      let obstacles = report.obstacle == nil ? 0 : 1
      tests = report.findings.count + report.suppressed.count + obstacles
      failures = count(.failure)
      errors = count(.couldNotVerify) + obstacles
      skipped = count(.notChecked) + report.suppressed.count
    }

    mutating func add(_ other: Counts) {
      tests += other.tests
      failures += other.failures
      errors += other.errors
      skipped += other.skipped
    }

    func attributes(_ seconds: Double) -> String {
      let time = "\(Int64((seconds * 1000).rounded()))".leftPadded(to: 4)
      return "tests=\"\(tests)\" failures=\"\(failures)\" errors=\"\(errors)\" skipped=\"\(skipped)\" "
        + "time=\"\(time.dropLast(3)).\(time.suffix(3))\""
    }
  }
}

extension String {
  fileprivate func leftPadded(to width: Int) -> String { String(repeating: "0", count: max(0, width - count)) + self }
}
