import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import Logging
import Testing

/// What the tests of backups and restores share.
enum BackupFixture {
  static let logger: Logger = {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return logger
  }()

  static func component() throws -> Component { try Component(.postgres, "test") }

  /// A repository in a temporary folder that a server's user can reach.
  static func withRepository<R>(_ body: (Repository, String) async throws -> R) async throws -> R {
    try await withTemporaryFolder { folder in
      // Servers run as another user when the tests run as root.
      chmod(folder, 0o711)
      let tier = try await LocalTier(root: folder + "/repository", creating: true)
      return try await body(Repository(tier: tier), folder)
    }
  }

  static func source(_ server: PostgresSandbox) throws -> PostgresBaseBackup {
    PostgresBaseBackup(component: try component(), server: server.settings, requiredWAL: .included)
  }

  static func backUp(
    _ source: PostgresBaseBackup, to repository: Repository, encoding: Encoding = Encoding()
  ) async throws -> BackupManifest {
    try await repository.backUp(source, cadence: .daily, encoding: encoding, logger: logger)
  }

  /// Restores to the end of what the backup itself holds.
  static func restore(
    _ manifest: BackupManifest, from repository: Repository, to folder: String,
    tablespaces: [String: String] = [:], replacing: Bool = false, decoding: Decoding = Decoding()
  ) async throws -> RestoreOutcome {
    try await PostgresRestorer(
      dataFolder: folder, recovery: RecoverySettings(restoreCommand: nil), tablespaces: tablespaces,
      replacesExisting: replacing
    ).restore(from: repository.reader(for: manifest, decoding: decoding), to: .latest, logger: logger)
  }

  /// `pg_verifybackup`, the judge of what was written.
  static func verify(_ folder: String, _ server: PostgresSandbox) async throws {
    let result = try await runCommand(
      server.installation.path("pg_verifybackup"), ["-n", "-e", folder], timeLimit: .seconds(120))
    #expect(result.status == 0, "\(result.error)")
  }

  /// A digest of every row of every table.
  static func digest(_ server: PostgresSandbox, tables: [String]) async throws -> [String?] {
    var digests: [String?] = []
    for table in tables {
      digests.append(
        try await server.query("SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \(table) t").single)
    }
    return digests
  }
}
