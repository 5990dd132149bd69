import ArgumentParser
import DRCore
import DRPlan
import DRVerify
import ExampleSupport
import Foundation
import PlatformSupport

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
    try print(report)
    if report.verdict != .passed { throw ExitCode(report.verdict.exitCode) }
  }

  /// The same, and keeps the evidence of it.
  ///
  /// - Parameter keeper: Nil: none is kept.
  /// - Throws: `ExitCode` unless it passed and is kept; ``DRError`` with `notWritable`.
  func give(_ report: VerificationReport, keptBy keeper: ReportKeeper?, as evidence: () throws -> RunReport)
    async throws
  {
    try print(report)
    var isLost = false
    if let keeper {
      do {
        let line = try await keeper.keep(try evidence()).line
        FileHandle.standardError.write(Data((line + "\n").utf8))
      } catch {
        isLost = true
        let text = "error: the report was not kept in \(keeper.history): \(DRError.text(of: error))\n"
        FileHandle.standardError.write(Data(text.utf8))
      }
    }
    if report.verdict != .passed { throw ExitCode(report.verdict.exitCode) }
    if isLost { throw ExitCode(2) }
  }

  private func print(_ report: VerificationReport) throws {
    if let junit {
      do {
        try Data(JUnitReport([report]).xml.utf8).write(to: URL(fileURLWithPath: junit), options: .atomic)
      } catch {
        throw DRError(.notWritable, "JUnit's file cannot be written", object: junit, cause: error)
      }
    }
    if json {
      Swift.print(try JSONOutput.text(report))
    } else {
      for finding in report.findings { Swift.print(finding) }
      for suppressed in report.suppressed {
        Swift.print("suppressed, because \(suppressed.reason): \(suppressed.finding)")
      }
      Swift.print("\(report.subject): \(report.sentence)")
    }
  }
}
