import ArgumentParser
import DRCore
import DRPlan
import DRSandbox
import ExampleSupport
import Foundation
import PlatformSupport
import ServiceLifecycle

/// Ends what services that were killed have left running on this host, again and again.
private struct Leftovers: Service {
  private let programs: StartedPrograms

  init(of programs: StartedPrograms) { self.programs = programs }

  func run() async throws {
    await cancelWhenGracefulShutdown {
      while (try? await Task.sleep(for: .seconds(5))) != nil { await end() }
    }
  }

  func end() async {
    let left = await programs.endAbandoned()
    guard !left.isEmpty else { return }
    Serve.say("ended what one that was killed had left running: \(left.map(String.init).joined(separator: ", "))")
  }
}

/// Runs the plan by its schedules.
struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs the plan by its schedules until SIGTERM or SIGINT; several hosts may, and one works.",
    discussion: """
      Logs and taps run all the time, and are begun again when they end. What it remembers, and the lease by which one host works, are in the \
      platform's repository. SIGTERM begins nothing more, and lets what runs come to its end within --grace. Programs that one which was killed \
      (kill -9) has left on this host are ended first.
      """)

  @OptionGroup var arguments: PlatformArguments

  @Option(help: "How long a shutdown waits for what runs: 5m, 1h.")
  var grace = "5m"

  @Option(help: "How long the lease of a host that died lives on.")
  var lease = "60s"

  @Option(
    help: "Where it notes which programs it runs; of this user alone. In the folder for temporary files unless said.")
  var runFolder: String?

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  func validate() throws {
    guard try usage({ try Span(lease) }).seconds >= 1 else { throw ValidationError("--lease is 1s at least") }
    _ = try usage { try Span(grace) }
  }

  func run() async throws {
    try await reporting {
      let platform = try arguments.read()
      let logger = ProgramLog.make("dr-backup", verbose: verbose)
      let tasks = platform.tasks
      for task in tasks where task.work == nil { Serve.say("\(task.id): NOT CONFIGURED, no program does it") }
      var scheduler = try Scheduler(
        Platform.scheduler, jobs: tasks.compactMap(\.job), timeZone: platform.plan.timeZone,
        on: try await platform.tier(),
        logger: logger)
      scheduler.grace = try Span(grace)
      scheduler.leaseLife = try Span(lease)
      scheduler.onEvent = { Serve.say($0) }
      let programs = try StartedPrograms(folder: runFolder ?? "\(NSTemporaryDirectory())/dr-backup-\(geteuid())")
      await Leftovers(of: programs).end()
      // Also of another one on this host, in whose place this one comes.
      let services = ServiceGroup(
        services: [Leftovers(of: programs), scheduler], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
      try await StartedPrograms.$current.withValue(programs) { try await services.run() }
      Serve.say("ended in good order")
    }
  }

  fileprivate static func say(_ line: String) {
    print("\(Timestamp.format(Date())) \(line)")
    // Somebody may wait for this line in a file.
    fflush(nil)
  }

  private static func say(_ event: Scheduler.Event) {
    switch event {
    case .waiting: say("waiting: another host holds the lease")
    case .working(let token): say("working, with the lease's token \(token)")
    case .decided(.begin(let order)):
      let missed = order.missed > 0 ? ", in the place of \(order.missed) before it" : ""
      let attempt = order.attempt > 1 ? ", attempt \(order.attempt)" : ""
      say("\(order.job): begun, due \(Timestamp.format(order.due))\(attempt)\(missed)")
    case .decided(.skipped(let job, let runs, let last)):
      say("\(job): \(runs) runs were left out, the last of them of \(Timestamp.format(last))")
    case .decided(.clockWentBack(let job, let by)): say("\(job): the clock was set back by \(by)")
    case .ended(let job, let outcome, let evidence, let took, let again):
      let next = again.map { ", again at \(Timestamp.format($0))" } ?? ""
      say("\(job): \(outcome.rawValue) after \(took): \(evidence)\(next)")
    case .leaseLost: say("the lease was lost: what ran was ended")
    case .notStored(let error): say("what is remembered was not stored: \(error)")
    }
  }
}
