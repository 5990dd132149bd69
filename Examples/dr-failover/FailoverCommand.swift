import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport

/// Brings a platform up in another region.
@main
struct FailoverCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-failover",
    abstract: "Brings the whole platform up in another region, and writes the plan of the way back.",
    discussion: """
      The platform's file says for each region what provides it, what restores each component there, what starts the application and leads \
      names to it. Without --execute it says what it would do. Afterwards, --failback holds a recovery plan made from what was restored: back up \
      there, copy home, restore at home, compare, switch back; dr-plan recover carries it out. \
      \(ProgramExit.codes(wrong: "something was not done, or took longer than is allowed"))
      """)

  @Option(help: "The platform's file.", completion: .file())
  var platform: String

  @Option(help: "The region.")
  var targetRegion: String

  @Option(
    help: """
      The moment: '2026-11-23 12:00:00+00', or without a zone in that of the plan; latest is the latest of each.
      """)
  var targetTime = "latest"

  @Flag(help: "Do it.")
  var execute = false

  @Option(help: "The journal: run the same command again after a crash, and what was done is not repeated.")
  var journal: String?

  @Option(help: "Where the plan of the way back is written.", completion: .file())
  var failback = "failback.json"

  @Option(help: "When the disaster was, from which the time to recover counts; the beginning of the run unless said.")
  var since: String?

  func validate() throws {
    guard !execute || journal != nil else { throw ValidationError("--execute needs --journal") }
  }

  func run() async throws {
    try await reporting {
      ProgramFolder.lead()
      let platform = try Platform(file: platform)
      let moment = targetTime == "latest" ? nil : try MomentArgument.parse(targetTime, in: platform.plan.timeZone)
      if let moment { print("to \(Timestamp.format(moment))") }
      let plan = try platform.failoverPlan(to: targetRegion, moment: moment)
      let session = RecoverySession(
        plan, journal: execute ? journal : nil, since: try since.map { try MomentArgument.parse($0) })
      let report = try await session.run("dr-failover")
      guard !report.isDryRun else { return }
      if let moment {
        for (component, text) in platform.distances(of: report, from: moment) { print("\(component): \(text)") }
      }
      let back = try platform.failbackPlan(from: targetRegion, after: report)
      try back.write(to: URL(fileURLWithPath: failback), options: .atomic)
      print("the way back: dr-plan recover \(failback)")
      if report.verdict != .passed { throw ExitCode(1) }
    }
  }
}
