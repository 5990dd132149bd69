import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport

/// Restores a platform, or a part of it, to one moment.
@main
struct RestoreCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-restore",
    abstract: "Restores a platform, or one kind of system, to one moment, by the programs that its file names.",
    discussion: """
      Without --execute it says what it would do. Everything is restored side by side, and at the end it says how far each system is from the \
      moment that was asked for. Where a destination holds something, the programs refuse, as they always do. \
      \(ProgramExit.codes(wrong: "something was not restored, or took longer than is allowed"))
      """)

  @Option(help: "The platform's file.", completion: .file())
  var platform: String

  @Option(help: "Only systems of this kind: postgresql, redis, rabbitmq, config. May be given several times.")
  var type: [String] = []

  @Option(help: "Only this component: postgres/app. May be given several times.")
  var component: [String] = []

  @Option(help: "The backup, of one component; latest is the newest that reaches the moment.")
  var backup = "latest"

  @Option(
    help: """
      The moment: '2026-11-23 12:00:00+00', or without a zone in that of the plan; latest is the latest of each.
      """)
  var targetTime = "latest"

  @Option(help: "Restore in this region, as the platform's file says it.")
  var region: String?

  @Flag(help: "Restore into a throw-away server now, look at it, and remove it: the plan's verification 'restore'.")
  var test = false

  @Flag(help: "Do it.")
  var execute = false

  @Option(help: "The journal: run the same command again after a crash, and what was done is not repeated.")
  var journal: String?

  func validate() throws {
    guard !execute || test || journal != nil else { throw ValidationError("--execute needs --journal") }
    guard !test || (targetTime == "latest" && backup == "latest" && region == nil) else {
      throw ValidationError("--test is of the latest: --target-time, --backup and --region do not go with it")
    }
  }

  func run() async throws {
    try await reporting {
      ProgramFolder.lead()
      let platform = try Platform(file: platform)
      let chosen = try components(of: platform)
      if test { return try await runTests(platform, chosen) }
      guard backup == "latest" || chosen.count == 1 else { throw ValidationError("--backup is of one component") }
      let moment = targetTime == "latest" ? nil : try MomentArgument.parse(targetTime, in: platform.plan.timeZone)
      if let moment { print("to \(Timestamp.format(moment))") }
      let plan = try platform.restorePlan(
        chosen, backup: backup == "latest" ? nil : backup, moment: moment, region: region)
      let session = RecoverySession(plan, journal: execute ? journal : nil)
      let report = try await session.run("dr-restore")
      guard !report.isDryRun else { return }
      if let moment {
        for (component, text) in platform.distances(of: report, from: moment) { print("\(component): \(text)") }
      }
      if report.verdict != .passed { throw ExitCode(1) }
    }
  }

  private func components(of platform: Platform) throws -> [Component] {
    let all = platform.plan.components.map(\.component)
    let kinds = try type.map { kind in try usage { try Component.Kind(kind == "postgresql" ? "postgres" : kind) } }
    let named = try component.map { name in try usage { try Component(parsing: name) } }
    for kind in kinds where !all.contains(where: { $0.kind == kind }) {
      throw ValidationError("the plan has no component of the kind \(kind)")
    }
    for name in named where !all.contains(name) { throw ValidationError("the plan has no component \(name)") }
    return kinds.isEmpty && named.isEmpty ? all : all.filter { kinds.contains($0.kind) || named.contains($0) }
  }

  private func runTests(_ platform: Platform, _ chosen: [Component]) async throws {
    let tasks = platform.tasks.filter { chosen.contains($0.component) && $0.what == "verification, restore" }
    var isWrong = tasks.isEmpty
    if tasks.isEmpty { print("the plan has no restore test of that") }
    for task in tasks {
      guard let job = task.job else {
        print("\(task.id): not configured: no program does it")
        isWrong = true
        continue
      }
      do {
        let said = try await withTimeLimit(job.limit.duration, "the restore test") { try await job.action.perform() }
        print("\(task.id): passed: \(said)")
      } catch {
        print("\(task.id): failed: \(DRError.text(of: error))")
        isWrong = true
      }
    }
    if isWrong { throw ExitCode(1) }
  }
}
