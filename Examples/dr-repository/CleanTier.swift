import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport

extension CleaningOutcome {
  fileprivate var isEmpty: Bool { objects.isEmpty && uploads == 0 && young.isEmpty && youngUploads.isEmpty }
}

/// Removes what interrupted backups, copies and uploads left on a tier.
struct CleanTier: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clean", abstract: "Removes what interrupted backups, replications and uploads left on a tier.")

  @OptionGroup var common: CommonArguments

  @Option(help: "The tier.")
  var tier: String

  @Option(parsing: .unconditional, help: "Only what has shown no sign of life for so many hours.")
  var olderThanHours = 24.0

  func validate() throws {
    // What runs renews its sign of life: what is younger may be at work.
    guard olderThanHours >= 1 else { throw ValidationError("--older-than-hours is 1 or more") }
  }

  func run() async throws {
    try await reporting {
      let repository = try await common.repository(tier, probing: .reading)
      let outcome = try await repository.cleanInterrupted(
        olderThan: .seconds(olderThanHours * 3600), logger: common.logger)
      if outcome.isEmpty {
        let isEmpty = try await repository.tier.list(prefix: "", after: nil, limit: 1).objects.isEmpty
        try await common.refuseEmpty(repository, isEmpty: isEmpty)
      }
      CleanReport.say(outcome, olderThanHours: olderThanHours)
    }
  }
}
