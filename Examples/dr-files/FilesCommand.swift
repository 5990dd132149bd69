import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport
import Foundation
import Logging

/// Backs up and restores trees of files: configuration, certificates, keys.
@main
struct FilesCommand: AsyncParsableCommand, BackupProgram {
  static let kind = Component.Kind.config
  static let configuration = CommandConfiguration(
    commandName: "dr-files",
    abstract: "Backs up and restores trees of files: configuration, certificates, keys.",
    discussion: ProgramExit.codes(),
    subcommands: [
      InitializeRepository<FilesCommand>.self, CaptureFiles.self, Watch.self, List.self, Certificates.self,
      VerifyBackup<FilesCommand>.self, Restore.self, Git.self, Clean<FilesCommand>.self,
    ])
}

/// What every subcommand that works on a repository is told.
typealias RepositoryArguments = ExampleSupport.RepositoryArguments<FilesCommand>

extension RepositoryArguments where Program == FilesCommand {
  /// The backup of this name, or the newest that was complete at a moment.
  func backup(
    _ id: String?, for target: RecoveryTarget = .latest, in repository: Repository
  ) async throws -> BackupManifest {
    let component = try settings().component
    let catalog = try await repository.catalog(of: component)
    if id == nil { catalog.warnOfUnreadable() }
    return try id.map { try catalog.backup(id: $0, of: component) } ?? catalog.backup(of: component, for: target)
  }
}

/// Absolute, without following links.
func absolute(_ path: String) -> String {
  path.hasPrefix("/") ? path : "\(FileManager.default.currentDirectoryPath)/\(path)"
}
