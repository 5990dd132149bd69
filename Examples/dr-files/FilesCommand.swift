import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport
import Foundation
import Logging

/// Backs up and restores trees of files: configuration, certificates, keys.
@main
struct FilesCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-files",
    abstract: "Backs up and restores trees of files: configuration, certificates, keys.",
    discussion: "Exit codes: 0 done, 1 not as it should be, 2 could not run.",
    subcommands: [Initialize.self, CaptureFiles.self, List.self, Restore.self])
}

/// What every subcommand is told.
struct RepositoryArguments: ParsableArguments {
  @Option(
    help: "The configuration: a JSON file with repository, component, recipients, identityFile.",
    completion: .file(extensions: ["json"]))
  var config: String

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  var logger: Logger { ProgramLog.make("dr-files", verbose: verbose) }

  func settings() throws -> RepositoryConfiguration {
    let settings = try RepositoryConfiguration(file: config)
    guard settings.component.kind == .config else {
      throw DRError(
        .invalidConfiguration, "the component is none of files: its kind is '\(settings.component.kind)'",
        advice: "name it config/… in the configuration file", object: config)
    }
    return settings
  }

  /// The backup of this name, or the newest that was complete at a moment.
  func backup(_ id: String?, until moment: String?, in repository: Repository) async throws -> BackupManifest {
    let settings = try settings()
    let catalog = try await repository.catalog(of: settings.component)
    if let id {
      guard moment == nil else {
        throw DRError(.invalidConfiguration, "a backup and a moment were given", advice: "give one of them")
      }
      return try catalog.backup(id: id, of: settings.component)
    }
    let target = try RecoveryTarget(immediate: false, time: moment, position: nil)
    return try catalog.backup(of: settings.component, for: target)
  }
}

/// Absolute, without following links.
func absolute(_ path: String) -> String {
  path.hasPrefix("/") ? path : "\(FileManager.default.currentDirectoryPath)/\(path)"
}

/// Makes the repository.
struct Initialize: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Makes the repository's folder. Once; no other command makes one.")

  @OptionGroup var repository: RepositoryArguments

  func run() async throws {
    try await reporting {
      let tier = try await repository.settings().tier(creating: true)
      print("the repository is \(tier.name)")
    }
  }
}
