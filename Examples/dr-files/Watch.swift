import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport
import Foundation
import ServiceLifecycle

/// Captures a tree whenever something in it changes.
struct Watch: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Takes a backup whenever something changes in a folder, within two seconds, until SIGTERM or SIGINT.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var tree: TreeArguments

  @Option(help: "Where the backups lie in the tree: hourly, daily, weekly or monthly.")
  var cadence = "hourly"

  func validate() throws {
    _ = try usage { try Cadence(parsing: cadence) }
  }

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      try settings.warnOfPlaintext()
      let store = Repository(tier: try await settings.tier(creating: false))
      let said = MutableBox<Set<Finding>>([])
      let changes = FileTreeChanges(
        tree.source(of: settings.component), to: store, cadence: try Cadence(parsing: cadence),
        encoding: try settings.encoding(), logger: repository.logger
      ) { manifest in
        let findings = say(manifest, except: said.value)
        said.withLock { $0 = findings }
        // Somebody may wait for this line in a file.
        fflush(nil)
      }
      try await ServiceGroup(
        services: [changes], gracefulShutdownSignals: [.sigterm, .sigint], logger: repository.logger
      ).run()
    }
  }
}
