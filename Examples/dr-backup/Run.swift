import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport

/// Runs captures and verifications now, whatever their schedules say.
struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs captures now, one after the other, the most important component first.",
    discussion: """
      Unless said, every capture that is no upkeep and does not go on all the time. What fails keeps no other from being run; exit code 1 if \
      something failed, or if nothing was run.
      """)

  @OptionGroup var arguments: PlatformArguments

  @Option(help: "Only this component: postgres/app. May be given several times.")
  var component: [String] = []

  @Option(help: "Only this capture, or 'verification, data', by its name in the plan. May be given several times.")
  var only: [String] = []

  @Flag(help: "As JSON.")
  var json = false

  private struct Said: Encodable {
    var job: String
    var outcome: String
    var seconds: Double
    var evidence: String
  }

  func run() async throws {
    try await reporting {
      let platform = try arguments.read()
      let wanted = try Set(component.map { try Component(parsing: $0) })
      let tasks = platform.tasks
      for component in wanted where !tasks.contains(where: { $0.component == component }) {
        throw ValidationError("the plan has no component \(component)")
      }
      for name in only where !tasks.contains(where: { $0.what == name }) {
        let names = Set(tasks.map(\.what)).sorted().joined(separator: "; ")
        throw ValidationError("the plan has no '\(name.prefix(60))'; it has \(names)")
      }
      let chosen = tasks.filter { task in
        (wanted.isEmpty || wanted.contains(task.component)) && task.schedule != .always
          && (only.isEmpty ? task.capture.map { $0.purpose != .upkeep } ?? false : only.contains(task.what))
      }
      let said = try await endingInGoodOrder(saying: "what was not run was not captured") { [json] in
        var said: [Said] = []
        for task in chosen {
          try Task.checkCancellation()
          let began = Date()
          let line = await Run.perform(task)
          try Task.checkCancellation()
          if task.verifiesContent, line.outcome == "done" { await Run.note(task, began, platform) }
          if !json { print("\(line.job): \(line.outcome) in \(Span.seconds(line.seconds)): \(line.evidence)") }
          said.append(line)
        }
        return said
      }
      if json {
        print(try JSONOutput.text(said))
      }
      guard !said.isEmpty else {
        FileHandle.standardError.write(Data("error: nothing of the plan is like that\n".utf8))
        throw ExitCode(1)
      }
      if said.contains(where: { $0.outcome != "done" }) { throw ExitCode(1) }
    }
  }

  private static func perform(_ task: Platform.Task) async -> Said {
    let start = ContinuousClock.now
    var said = Said(job: task.id, outcome: "not configured", seconds: 0, evidence: "no program does it")
    guard let job = task.job else { return said }
    do {
      said.evidence = try await withLimit(of: job)
      said.outcome = "done"
    } catch {
      (said.outcome, said.evidence) = ("failed", DRError.text(of: error))
    }
    said.seconds = start.duration(to: .now) / .seconds(1)
    return said
  }

  /// So that dr-status knows of it.
  private static func note(_ task: Platform.Task, _ began: Date, _ platform: Platform) async {
    do {
      try await Scheduler.note(byHand: task.id, of: Platform.scheduler, at: began, on: try await platform.tier())
    } catch {
      let text = "warning: dr-status will not know of '\(task.id)': \(DRError.text(of: error))\n"
      FileHandle.standardError.write(Data(text.utf8))
    }
  }

  private static func withLimit(of job: ScheduledJob) async throws -> String {
    try await withTimeLimit(job.limit.duration, "the job '\(job.id)'") { try await job.action.perform() }
  }
}
