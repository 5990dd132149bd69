import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import ExampleSupport
import Foundation
import Logging

/// Backs up and restores a PostgreSQL server.
@main
struct PostgresCommand: AsyncParsableCommand, BackupProgram {
  static let kind = Component.Kind.postgres
  static let configuration = CommandConfiguration(
    commandName: "dr-postgres",
    abstract: "Backs up, watches over and restores a PostgreSQL server.",
    discussion: ProgramExit.codes(wrong: "not verified"),
    subcommands: [
      InitializeRepository<PostgresCommand>.self, Backup.self, ReceiveWAL.self, List.self, Verify.self, CheckWAL.self,
      Restore.self, RestoreTable.self, Dump.self, RestoreDump.self, Compare.self, Clean<PostgresCommand>.self,
      Keygen.self,
    ])
}

/// What every subcommand that works on a repository is told.
typealias RepositoryArguments = ExampleSupport.RepositoryArguments<PostgresCommand>

/// How to reach the server.
struct ServerArguments: ParsableArguments {
  @Option(
    help: """
      A libpq connection string: 'host=… user=…' or postgresql://…. Passwords belong into ~/.pgpass, PGPASSFILE or \
      PGPASSWORD: an argument list is public.
      """)
  var server = ""

  func validate() throws { _ = try usage { try connection() } }

  func connection() throws -> PostgresConnectionSettings { try ServerArguments.connection(server) }

  static func connection(_ text: String) throws -> PostgresConnectionSettings {
    let settings = try PostgresConnectionSettings(conninfo: text)
    guard settings.password == nil, settings.otherParameters["sslpassword"] == nil else {
      throw DRError(
        .invalidConfiguration, "a password in an argument list can be read by everybody on this host",
        advice: "put it into ~/.pgpass, PGPASSFILE or PGPASSWORD")
    }
    return settings
  }
}

/// A repository, and the server that is backed up into it. Says once if what is stored will not be encrypted.
struct ProtectedServer {
  let settings: RepositoryConfiguration
  let connection: PostgresConnectionSettings
  let tier: any StorageTier
  private let logger: Logger

  init(_ repository: RepositoryArguments, _ server: ServerArguments) async throws {
    settings = try repository.settings()
    try settings.warnOfPlaintext()
    connection = try server.connection()
    tier = try await settings.tier(creating: false)
    logger = repository.logger
  }

  /// The archive of the server's WAL.
  func archive(encoding: Encoding, decoding: Decoding = Decoding()) async throws -> WALArchive {
    try await WALArchive.of(
      connection, tier: tier, component: settings.component, encoding: encoding, decoding: decoding, logger: logger)
  }

  /// Two clusters in one component would pass for one: a restore takes the newest.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` if the newest backup is of another cluster than the server.
  func refuseOtherSystem() async throws {
    guard let other = try await otherSystem(than: try await archive(encoding: Encoding())) else { return }
    throw DRError(
      .invalidConfiguration, other,
      advice:
        "back another cluster up as a component of its own, or say --new-system if it takes the place of the former",
      component: settings.component)
  }

  /// Says on standard error that the WAL is of another cluster than the newest backup: the two do not go together.
  func warnOfOtherSystem(_ archive: WALArchive) async throws {
    guard let other = try await otherSystem(than: archive) else { return }
    let line =
      "warning: \(other): this WAL is kept beside that of the former. Protect another cluster as a component of its own; if "
      + "it takes the place of the former, take its first backup with --new-system\n"
    FileHandle.standardError.write(Data(line.utf8))
  }

  private func otherSystem(than archive: WALArchive) async throws -> String? {
    let catalog = try await Repository(tier: tier).catalog(of: settings.component)
    guard let last = catalog.latest(for: settings.component), let known = last.systemIdentifier,
      archive.systemIdentifier != known
    else { return nil }
    return "the server is system \(archive.systemIdentifier), and the last backup \(last.id) is of system \(known)"
  }
}
