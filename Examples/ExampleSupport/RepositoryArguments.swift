public import ArgumentParser
import DRCore
public import Logging

/// What every subcommand of a program that works on a repository is told.
public struct RepositoryArguments<Program: BackupProgram>: ParsableArguments, Sendable {
  @Option(
    help: "The configuration: a JSON file with repository, component, recipients, identityFile, plaintext.",
    completion: .file(extensions: ["json"]))
  public var config: String

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  public var verbose = false

  public init() {}

  public var logger: Logger { ProgramLog.make(Program.name, verbose: verbose) }

  /// Reads the configuration.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`, also for a component of a kind that the program does not work on.
  public func settings() throws -> RepositoryConfiguration {
    let settings = try RepositoryConfiguration(file: config)
    guard settings.component.kind == Program.kind else {
      throw DRError(
        .invalidConfiguration,
        "\(Program.name) works on components of the kind '\(Program.kind)', and this one is \(settings.component)",
        advice: "name it \(Program.kind)/… in the configuration file, or use the program of its kind", object: config)
    }
    return settings
  }
}
