import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport

/// Carries out a platform's protection plan.
@main
struct BackupCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-backup",
    abstract: "Runs what a platform's plan wants done: once, or as a service by its schedules.",
    discussion: """
      The platform is one JSON file, which may have comments: the plan, and for each capture and verification the program that does it. \
      A sample is Examples/platform.json5. \(ProgramExit.codes(wrong: "something failed, or the plan cannot be kept"))
      """,
    subcommands: [Check.self, Run.self, Serve.self])
}

struct PlatformArguments: ParsableArguments {
  @Option(help: "The platform's file.", completion: .file())
  var platform: String

  func read() throws -> Platform {
    ProgramFolder.lead()
    return try Platform(file: platform)
  }
}

/// Says what of the plan cannot be kept, before anything runs.
struct Check: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says which promises the plan cannot keep, and what it wants done that no program does.")

  @OptionGroup var arguments: PlatformArguments

  @Flag(help: "As JSON.")
  var json = false

  func run() async throws {
    try await reporting {
      let platform = try arguments.read()
      var findings = try platform.plan.findings(at: Date())
      for task in platform.tasks {
        guard let work = task.work, let job = task.job else {
          findings.append(
            Finding(
              "job-configured", task.capture?.purpose == .upkeep ? .warning : .failure, subject: task.id,
              evidence: "not configured: the plan wants it, and no program does it",
              advice: "give one in the platform's file, or take it out of the plan"))
          continue
        }
        do {
          try (job.action as? CommandAction)?.check()
          findings.append(
            Finding("job-configured", .passed, subject: task.id, evidence: work.run.joined(separator: " ")))
        } catch let error as DRError {
          findings.append(
            Finding("job-configured", .failure, subject: task.id, evidence: error.message, advice: error.advice))
        }
      }
      if json {
        print(try JSONOutput.text(findings))
      } else {
        for finding in findings { print(finding) }
      }
      if findings.contains(where: { $0.severity == .failure }) { throw ExitCode(1) }
    }
  }
}
