import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport

/// Carries out a recovery plan.
struct Recover: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Carries out a recovery plan: its steps as wide as they allow, with a journal, so that a killed run goes on.",
    discussion: """
      Without --execute it says what it would do, in which order, and how long it may take. The journal is needed to execute: run the same \
      command again after a crash, and what was done is not repeated. SIGTERM or SIGINT stop it and take back what has an 'undo'; the report is kept \
      (--history) however it ends. Exit code 1 if a step failed, a budget was exceeded, or the report could not be kept.
      """)

  @Argument(help: "The recovery plan, as JSON.", completion: .file(extensions: ["json"]))
  var plan: String

  @Flag(help: "Do it.")
  var execute = false

  @Option(help: "The journal: a file that is made by the first run.", completion: .file())
  var journal: String?

  @Option(help: "When the disaster was, from which the time to recover counts; the beginning of the run unless said.")
  var since: String?

  @Option(help: "When it was noticed, for the report: dr-plan watch says it.")
  var detected: String?

  @Option(help: "A variable of the plan: NAME=VALUE. May be given several times.")
  var set: [String] = []

  @Flag(help: "Answer every question of the plan with yes.")
  var yes = false

  @Option(parsing: .unconditional, help: "How many steps run side by side.")
  var width = 8

  @OptionGroup var evidence: EvidenceArguments

  func validate() throws {
    try allow("--width", width, 1...256)
    guard !execute || journal != nil else { throw ValidationError("--execute needs --journal") }
  }

  func run() async throws {
    try await reporting {
      ProgramFolder.lead()
      let data: Data
      do {
        data = try Data(contentsOf: URL(fileURLWithPath: plan))
      } catch {
        throw DRError(.invalidConfiguration, "the recovery plan cannot be read", object: plan, cause: error)
      }
      var variables: [String: String] = [:]
      for pair in set {
        guard let equals = pair.firstIndex(of: "=") else { throw ValidationError("--set is NAME=VALUE") }
        variables[String(pair[..<equals])] = String(pair[pair.index(after: equals)...])
      }
      let evidence = try evidence.evidence()
      let plan = try RecoveryPlan(json: data, variables: variables, messages: evidence.messages) { [yes] question in
        yes ? true : try await TerminalQuestion.ask(question)
      }
      let (since, detected) = (try since.map(MomentArgument.parse), try detected.map(MomentArgument.parse))
      guard detected.map({ $0 >= since ?? .distantFuture }) ?? true else {
        throw ValidationError("--detected is a moment after --since, which it needs")
      }
      let session = RecoverySession(plan, journal: execute ? journal : nil, width: width, since: since)
      let logger = ProgramLog.make("dr-plan", verbose: false)
      let report = try await session.run("dr-plan") { run, body in
        try await evidence.recording(run, since: since ?? Date(), detected: detected, logger, body)
      }
      guard !report.isDryRun else { return }
      if report.verdict != .passed || evidence.isLost { throw ExitCode(1) }
    }
  }
}
