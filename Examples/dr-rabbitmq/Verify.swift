import ArgumentParser
import DRCore
import DRRabbitMQ
import ExampleSupport

/// Verifies the stored bytes of a backup, and the taps.
struct Verify: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Reads a backup and the segments of taps, checks every digest, and says which segments are missing.",
    discussion:
      "Exit codes: 0 verified, 1 not as it should be, 2 it could not be looked at. Nothing is written but a line in the audit trail."
  )

  @OptionGroup var repository: RepositoryArguments

  @Argument(help: "The backup; the newest unless said.")
  var backup: String?

  @Option(help: "metadata: everything is there with its size. data: every byte is read and digested.")
  var level = "data"

  func run() async throws {
    try await repository.audited("verify", object: backup, isReading: true) { line in
      let settings = try repository.settings()
      let (level, logger) = (level, repository.logger)
      try await settings.verify(
        backup, of: settings.component, level: level, on: line, logger: logger,
        others: { store, catalog in
          try await RabbitMQTapCheck(
            tier: store.tier, component: settings.component, decoding: try settings.decoding(),
            backups: catalog.backups, readsAll: level == "data"
          ).verify(logger: logger)
        })
    }
  }
}
