import ArgumentParser
import DRCore
import DRVerify
import ExampleSupport
import Foundation

/// How a report is given.
struct ReportArguments: ParsableArguments {
  @Flag(help: "As JSON.")
  var json = false

  @Option(help: "Write the report as JUnit's XML into this file, too.", completion: .file(extensions: ["xml"]))
  var junit: String?

  /// Prints the report, and writes what was asked for.
  ///
  /// - Throws: `ExitCode` unless it passed; ``DRError`` with `notWritable`.
  func give(_ report: VerificationReport) throws {
    if let junit {
      do {
        try Data(JUnitReport([report]).xml.utf8).write(to: URL(fileURLWithPath: junit), options: .atomic)
      } catch {
        throw DRError(.notWritable, "JUnit's file cannot be written", object: junit, cause: error)
      }
    }
    if json {
      print(try JSONOutput.text(report))
    } else {
      for finding in report.findings { print(finding) }
      for suppressed in report.suppressed {
        print("suppressed, because \(suppressed.reason): \(suppressed.finding)")
      }
      print("\(report.subject): \(report.sentence)")
    }
    if report.verdict != .passed { throw ExitCode(report.verdict.exitCode) }
  }
}
