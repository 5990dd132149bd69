import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation

/// Carries out a recovery plan.
struct Recover: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Carries out a recovery plan: its steps as wide as they allow, with a journal, so that a killed run goes on.",
    discussion: """
      Without --execute it says what it would do, in which order, and how long it may take. The journal is needed to execute: run the same \
      command again after a crash, and what was done is not repeated. SIGTERM or SIGINT stop it and take back what has an 'undo'. Exit code 1 \
      if a step failed, or a budget was exceeded.
      """)

  @Argument(help: "The recovery plan, as JSON.", completion: .file(extensions: ["json"]))
  var plan: String

  @Flag(help: "Do it.")
  var execute = false

  @Option(help: "The journal: a file that is made by the first run.", completion: .file())
  var journal: String?

  @Option(help: "When the disaster was, from which the time to recover counts; the beginning of the run unless said.")
  var since: String?

  @Flag(help: "Answer every question of the plan with yes.")
  var yes = false

  @Option(parsing: .unconditional, help: "How many steps run side by side.")
  var width = 8

  func validate() throws {
    try allow("--width", width, 1...256)
    guard !execute || journal != nil else { throw ValidationError("--execute needs --journal") }
  }

  func run() async throws {
    try await reporting {
      let data: Data
      do {
        data = try Data(contentsOf: URL(fileURLWithPath: plan))
      } catch {
        throw DRError(.invalidConfiguration, "the recovery plan cannot be read", object: plan, cause: error)
      }
      let plan = try RecoveryPlan(json: data) { [yes] question in yes ? true : try await Recover.ask(question) }
      var run = RecoveryRun(plan, journal: journal.map { RecoveryJournal(at: $0) })
      run.isDryRun = !execute
      run.width = width
      run.since = try since.map { text in
        guard let moment = Timestamp.parse(text) else {
          throw ValidationError("--since is a moment: 2026-11-23 12:00:00+00")
        }
        return moment
      }
      run.onEvent = Recover.say
      let logger = ProgramLog.make("dr-plan", verbose: false)
      let report = try await endingInGoodOrder(
        saying: "the journal says what was done, and the same command goes on with it"
      ) { [run] in
        let report = try await run.run(logger: logger)
        guard report.wasCancelled else { return report }
        for step in plan.ordered {
          if let entry = report.entries[step.id] { print("\(step.id): \(entry.outcome.rawValue): \(entry.evidence)") }
        }
        throw CancellationError()
      }
      for step in plan.ordered {
        guard let entry = report.entries[step.id], entry.outcome == .planned || entry.isFromJournal else { continue }
        print("\(step.id): \(entry.isFromJournal ? "done before" : "would \(entry.evidence)"), budget \(step.budget)")
      }
      for (step, because) in report.notExecuted { print("\(step): NOT EXECUTED, \(because)") }
      let longest = plan.criticalPath { $0.budget.seconds }
      if report.isDryRun {
        print("critical path: \(longest.steps.joined(separator: ", ")), up to \(longest.length) of \(plan.budget)")
        print("nothing was done: this is the plan. --execute --journal FILE carries it out")
        return
      }
      print("critical path: \(report.criticalPath.joined(separator: ", "))")
      for finding in report.findings where finding.severity == .failure { print(finding) }
      print("\(report.verdict.rawValue): \(report.elapsed) from the disaster to the end, \(plan.budget) allowed")
      if report.verdict != .passed { throw ExitCode(1) }
    }
  }

  private static func say(_ event: RecoveryRun.Event) {
    switch event {
    case .started(let step, let attempt): print("\(step): begun" + (attempt > 1 ? ", attempt \(attempt)" : ""))
    case .failed(let step, let attempt, let error, let isLast):
      print("\(step): attempt \(attempt) failed: \(error)" + (isLast ? "" : "; trying again"))
    case .ended(let entry) where entry.outcome != .planned:
      print("\(entry.step): \(entry.outcome.rawValue) in \(entry.duration): \(entry.evidence)")
    case .ended: break
    }
  }

  /// On the terminal; the end of the input is no.
  private static func ask(_ question: String) async throws -> Bool {
    print("\(question) [y/N] ", terminator: "")
    fflush(nil)
    let executor = BlockingExecutor(label: "dr-plan.ask")
    var line: [UInt8] = []
    while !line.contains(UInt8(ascii: "\n")) {
      try Task.checkCancellation()
      // In slices: a read that waits for a person would outlast the step's limit. Nil: nothing yet.
      let read: [UInt8]? = try await executor.run {
        var input = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        guard poll(&input, 1, 200) > 0 else { return nil }
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { buffer in
          let count = Foundation.read(STDIN_FILENO, buffer.baseAddress, buffer.count)
          return Array(buffer.prefix(max(0, count)))
        }
      }
      guard let read else { continue }
      if read.isEmpty { break }
      line += read
    }
    let answer = String(decoding: line.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    return ["y", "yes"].contains(answer.trimmingCharacters(in: .whitespaces).lowercased())
  }
}
