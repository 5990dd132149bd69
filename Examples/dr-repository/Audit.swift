import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport
import Foundation

/// Lists the audit trail.
struct Audit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists who did what to the backups, and says whether lines are missing.",
    discussion: """
      Each line names when, who, from where, with what, on which object, and how it went. The lines of a host are a chain: one that was removed from \
      it, or changed, is a failure (exit code 1). That the last lines of a chain were removed nobody can see from it: note the digests that are \
      printed, or lock the objects. Nothing is written.
      """)

  @OptionGroup var common: CommonArguments

  @Option(help: "The tier of the repository.")
  var tier: String

  @Option(help: "Only lines from this moment on: '2026-11-23 12:00:00+00'.")
  var since: String?

  @Option(help: "Only this operation: backup, restore, verify, recover, prune, replicate, clean.")
  var operation: String?

  @Flag(help: "As JSON, a line each.")
  var json = false

  func run() async throws {
    try await reporting {
      let begin = try since.map { try MomentArgument.parse($0) }
      let only = try common.only()
      let (records, findings) = try await AuditTrail.read(on: try await common.repository(tier, probing: .reading).tier)
      let chosen = records.filter { record in
        (begin.map { record.when >= $0 } ?? true) && (operation.map { record.operation == $0 } ?? true)
          && (only.map { record.component == $0 } ?? true)
      }
      for record in chosen {
        if json {
          print(String(decoding: try record.line(), as: UTF8.self), terminator: "")
        } else {
          print(record)
        }
      }
      for finding in findings where finding.severity == .failure || !json {
        if json {
          FileHandle.standardError.write(Data("\(finding)\n".utf8))
        } else {
          print(finding)
        }
      }
      if findings.contains(where: { $0.severity == .failure }) { throw ExitCode(1) }
    }
  }
}
