import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import ExampleSupport
import Foundation

/// Lists the backups.
struct List: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Lists the backups.")

  @OptionGroup var repository: RepositoryArguments

  @Flag(help: "List the logical dumps.")
  var dumps = false

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let component = dumps ? try settings.component.dumps : settings.component
      let catalog = try await Repository(tier: try await settings.tier(creating: false, probing: .reading)).catalog(
        of: component)
      for backup in catalog.backups {
        print(
          "\(backup.id)  \(backup.cadence)  \(backup.method.rawValue)  \(Format.bytes(backup.rawSize)) as "
            + "\(Format.bytes(backup.storedSize))  from \(Timestamp.format(backup.recoveryPoint.time))  "
            + "LSN \(backup.recoveryPoint.position) timeline \(backup.recoveryPoint.history ?? "?")"
            + (backup.damagedPages.isEmpty ? "" : "  DAMAGED PAGES \(backup.damagedPages.count)"))
      }
      if catalog.backups.isEmpty { print("no backups of \(component)") }
      for broken in catalog.unreadable { print("UNREADABLE \(broken.id): \(broken.error)") }
      if !catalog.unreadable.isEmpty { throw ExitCode(1) }
    }
  }
}
