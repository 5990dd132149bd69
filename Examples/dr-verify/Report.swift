import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation

/// Checks reports: who signed them, that nothing in them was changed, and that none is missing.
struct Report: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Checks signed reports of drills, recoveries and verifications, offline.",
    discussion: """
      Each report lies with its signature (00000042.json, 00000042.dsse.json), as in a repository's folder 'reports'. The public key is the one that \
      you have from elsewhere: a signature that brings its own key proves nothing. Every file that was signed must be what it was, and each report \
      must name the SHA-256 of the one before it. Exit codes: 0 all is as it was signed, 1 not, 2 could not look.
      """)

  @Argument(help: "Reports, or folders of them.", completion: .file())
  var reports: [String]

  @Option(help: "The public key of who signs the reports: a PEM file (openssl pkey -pubout).", completion: .file())
  var key: String

  @Option(help: "The SHA-256 of the report before the first one, if that is not the first of its history.")
  var after: String?

  @Option(
    help: "The SHA-256 of the newest report, as it was noted elsewhere: so it is seen if the last ones were removed.")
  var head: String?

  @Flag(help: "As JSON.")
  var json = false

  func validate() throws {
    guard !reports.isEmpty else { throw ValidationError("name a report, or a folder of them") }
  }

  func run() async throws {
    try await reporting {
      let check = ReportCheck(key: try ReportVerifyingKey(file: key), after: after, head: head)
      let findings = check.findings(try reports.flatMap { try ReportFiles.read($0) })
      if json {
        print(try JSONOutput.text(findings))
      } else {
        for finding in findings { print(finding) }
      }
      if findings.contains(where: { $0.severity == .failure }) { throw ExitCode(1) }
    }
  }
}
