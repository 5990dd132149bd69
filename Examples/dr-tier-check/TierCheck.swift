import ArgumentParser
import DRCore
import DRVerify
import ExampleSupport

/// Runs the conformance suite against a tier.
@main
struct TierCheck: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-tier-check",
    abstract: "Checks that a tier keeps what it promises, by doing it, and says what it can do.",
    discussion: """
      Works below one prefix of its own, and removes what it wrote: some 60 MB are written and read. Credentials of a bucket \
      come from the environment or from AWS's own files, never from an argument.
      \(ProgramExit.codes(done: "it keeps its promises", wrong: "it does not", failed: "it could not be reached"))
      """)

  @Option(help: "The tier: s3://bucket/prefix, the folder of a local one, or a JSON file that says it.")
  var tier: String

  @Option(help: "Below it everything is written.")
  var prefix = "dr-tier-check"

  @Option(parsing: .unconditional, help: "How long a thaw is waited for, in seconds.")
  var thawLimit = 20

  @Flag(help: "Make a local tier if there is none.")
  var create = false

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  func validate() throws {
    try allow("--thaw-limit", thawLimit, 0...86_400)
  }

  func run() async throws {
    try await reporting {
      var settings = StorageTierConformance.Settings()
      settings.thawLimit = .seconds(thawLimit)
      let tier = try await TierPlace.open(tier, creating: create)
      let report = try await StorageTierConformance(tier, prefix: prefix, settings: settings)
        .run(logger: ProgramLog.make("dr-tier-check", verbose: verbose))
      print(report.text)
      if !report.isConformant { throw ExitCode(1) }
    }
  }
}
