import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport

/// Plans as values: checked before anything runs, and carried out.
@main
struct PlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-plan",
    abstract: "Checks a protection plan against its promises, says what runs when, and carries out recovery plans.",
    discussion: """
      A protection plan is a JSON file; without one, the platform's own is taken, which 'show' prints. \(ProgramExit.codes())
      """,
    subcommands: [Show.self, Check.self, Next.self, Expose.self, Recover.self, Watch.self, History.self])
}

/// Which plan is meant.
struct PlanArguments: ParsableArguments {
  @Option(help: "The plan, as JSON.", completion: .file(extensions: ["json"]))
  var plan: String?

  func read() throws -> ProtectionPlan {
    guard let plan else { return try PlatformPlan.make() }
    do {
      return try JSONDecoder().decode(ProtectionPlan.self, from: Data(contentsOf: URL(fileURLWithPath: plan)))
    } catch let error as DecodingError {
      throw DRError(
        .invalidConfiguration, "the plan is not right: \(error.reason)", advice: "compare it with: dr-plan show",
        object: plan)
    } catch let error as DRError {
      throw error
    } catch {
      throw DRError(.invalidConfiguration, "the plan cannot be read", object: plan, cause: error)
    }
  }
}

/// Prints the plan.
struct Show: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Prints the plan as JSON: a beginning for one of your own.")

  @OptionGroup var arguments: PlanArguments

  func run() async throws {
    try await reporting {
      print(try JSONOutput.text(try arguments.read()))
    }
  }
}

/// Says what the plan cannot keep.
struct Check: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what of its promises the plan cannot keep: schedules, retention, tiers, recovery times.",
    discussion: """
      Schedules are run over a year, with every change of the clocks. --measured is a JSON object by component: \
      {"redis/cache": {"bytes": 700000000, "bytesPerSecond": 150000000, "fixed": "20s"}}. Exit code 1 if a promise cannot be kept.
      """)

  @OptionGroup var arguments: PlanArguments

  @Option(help: "What restores were measured to take.", completion: .file(extensions: ["json"]))
  var measured: String?

  @Flag(help: "As JSON.")
  var json = false

  func run() async throws {
    try await reporting {
      let facts = try measured.map { try MeasuredRestores.read($0) } ?? [:]
      let findings = try arguments.read().findings(at: Date(), measured: facts)
      if json {
        print(try JSONOutput.text(findings))
      } else {
        for finding in findings { print(finding) }
      }
      if findings.contains(where: { $0.severity == .failure }) { throw ExitCode(1) }
    }
  }
}

/// Says what runs next.
struct Next: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Says what runs within the next hours.")

  @OptionGroup var arguments: PlanArguments

  @Option(parsing: .unconditional, help: "How far to look.")
  var hours = 24.0

  func validate() throws { try allow("--hours", hours, 0.1...24 * 366) }

  func run() async throws {
    try await reporting {
      let plan = try arguments.read()
      let range = Date()..<Date().addingTimeInterval(hours * 3600)
      for run in try plan.runs(in: range) { print("\(run.moment.formatted(.iso8601)) \(run.component) \(run.what)") }
    }
  }
}

/// Says what would be lost.
struct Expose: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exposure",
    abstract: "Says the most that would be lost of each component at any moment of the year to come.",
    discussion:
      "--without leaves captures out, by name: what if the log stood still? Exit code 1 if a promise would be broken.")

  @OptionGroup var arguments: PlanArguments

  @Option(help: "A capture that fails all the time.")
  var without: [String] = []

  func run() async throws {
    try await reporting {
      let plan = try arguments.read()
      let names = Set(plan.components.flatMap { $0.captures.map(\.name) })
      if let unknown = without.first(where: { !names.contains($0) }) {
        throw ValidationError("no capture is named '\(unknown.prefix(60))'")
      }
      let year = Date()..<Date().addingTimeInterval(366 * 86_400)
      var isBroken = false
      for protected in plan.components {
        let exposure = try plan.exposure(of: protected.component, in: year) { capture, _ in
          without.contains(capture.name)
        }
        let promised = Span(protected.objective.rpo)
        guard let worst = exposure.worst else {
          print("\(protected.component): nothing could be recovered at some moment")
          isBroken = true
          continue
        }
        let above = exposure.times(above: promised)
        print(
          "\(protected.component): at most \(worst.loss) would be lost, \(promised) promised, above it \(above.count) times"
        )
        if !above.isEmpty { isBroken = true }
      }
      if isBroken { throw ExitCode(1) }
    }
  }
}
