import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport

/// Restores a tree, or parts of it.
struct Restore: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restores a tree, or parts of it: into a new folder, or in place.")

  @OptionGroup var repository: RepositoryArguments

  @Argument(help: "The backup; the newest unless said.")
  var backup: String?

  @Option(help: "The newest backup that was complete at this moment, with a time zone: '2026-11-23 12:00:00+00'.")
  var targetTime: String?

  @OptionGroup var destination: DestinationArguments

  func validate() throws {
    _ = try usage { try target() }
    guard backup == nil || targetTime == nil else {
      throw ValidationError("a backup and a moment were given: give one of them")
    }
  }

  func run() async throws {
    try await repository.audited(
      destination.dryRun ? "diff" : "restore", object: destination.to, isReading: destination.dryRun
    ) { _ in
      let settings = try repository.settings()
      let source = try await settings.restoreSource()
      let target = try target()
      let manifest = try await source.backup { try await repository.backup(backup, for: target, in: $0) }
      try await destination.restore(
        try await source.reader(for: manifest, logger: repository.logger), repository.logger)
    }
  }

  private func target() throws -> RecoveryTarget {
    try RecoveryTarget(immediate: false, time: targetTime, position: nil)
  }
}
