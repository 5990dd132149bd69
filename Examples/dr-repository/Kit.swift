import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport
import Foundation

/// Writes the page to print: where the backups are, which keys open them, and how.
struct Kit: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recovery-kit",
    abstract: "Writes a text page to print: where the backups are, which keys open them, and how, with stock tools.")

  @Option(
    help: "The configuration of any program that works on the repository.", completion: .file(extensions: ["json"]))
  var config: String

  @Option(help: "byKind: one component of each kind. byKindAndName: a folder for each component.")
  var layout = RepositoryLayout.byKind.rawValue

  func run() async throws {
    try await reporting {
      guard let layout = RepositoryLayout(rawValue: layout) else {
        throw ValidationError("'\(layout.prefix(40))' is no layout: byKind or byKindAndName")
      }
      let settings = try RepositoryConfiguration(file: config)
      let repository = Repository(tier: try await settings.tier(creating: false), layout: layout)
      let kit = RecoveryKit(
        repository: settings.repository, copies: settings.copies ?? [], recipients: settings.recipients ?? [],
        catalog: try await repository.catalog())
      print(kit.page, terminator: "")
    }
  }
}
