import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport
import Foundation

/// Lists the backups, or what one of them holds.
struct List: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Lists the backups, or what one of them holds.")

  @OptionGroup var repository: RepositoryArguments

  @Argument(help: "The backup.")
  var backup: String?

  @Flag(help: "Show what the backup holds; the newest unless one is named.")
  var files = false

  @Option(name: .customLong("path"), help: "Only what this pattern matches. May be given several times.")
  var paths: [String] = []

  func validate() throws {
    _ = try usage { try PathSelection(included: paths) }
  }

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let store = Repository(tier: try await settings.tier(creating: false, probing: .reading))
      if files || backup != nil || !paths.isEmpty {
        let manifest = try await repository.backup(backup, in: store)
        let reader = store.reader(for: manifest, decoding: try settings.decoding())
        try await FileTreeListing(paths: paths).list(reader) { print($0) }
        return
      }
      let catalog = try await store.catalog(of: settings.component)
      for backup in catalog.backups {
        print(
          "\(backup.id)  \(backup.cadence)  \(backup.properties["files"]?.integer ?? 0) files of "
            + "\(backup.properties["root"]?.string ?? "?")  \(Format.bytes(backup.rawSize)) as "
            + "\(Format.bytes(backup.storedSize))  \(Timestamp.format(backup.recoveryPoint.time))")
      }
      if catalog.backups.isEmpty { print("no backups of \(settings.component)") }
      for broken in catalog.unreadable { print("UNREADABLE \(broken.id): \(broken.error)") }
      if !catalog.unreadable.isEmpty { throw ExitCode(1) }
    }
  }
}
