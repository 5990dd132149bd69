import DRCore
import DRPostgres
import ExampleSupport
import Foundation

/// The nightly dumps beside the base backups, and one dropped table brought back.
extension PostgresDrill {
  private nonisolated var dumps: Component { get throws { try Component(.init("postgres-dump"), component.name) } }

  func dump(_ server: PostgresConnectionSettings, _ run: DrillRun) async throws {
    let source = PostgresDump(
      component: try dumps, server: server, database: "postgres", formats: [.custom, .plain])
    let manifest = try await run.measure(self, "nightly dumps: custom and SQL, of one snapshot") {
      try await run.repository.backUp(source, cadence: .daily, encoding: run.encoding, logger: run.logger)
    }
    run.say(
      "\(manifest.id) of the dumps: \(Format.bytes(manifest.rawSize)) stored as \(Format.bytes(manifest.storedSize))")
  }

  /// Somebody drops a table of the restored server: it comes back from the base backup and its WAL.
  func dropAndRecoverTable(
    _ server: PostgresConnectionSettings, from backup: BackupManifest, to moment: Date, fetch: String,
    _ archive: WALArchive?, _ run: DrillRun
  ) async throws {
    let content = "SELECT count(*) || ' rows, ' || sum(hashtextextended(t::text, 0)) FROM agent_data t"
    func ask(_ statement: String) async throws -> String {
      try await PostgresConnection.withConnection(server, logger: run.logger) {
        try await $0.query(statement, limit: .seconds(600)).single ?? ""
      }
    }
    let before = try await ask(content)
    _ = try await ask("DROP TABLE agent_data")
    let recovery = PostgresTableRecovery(
      server: server, table: "agent_data", placement: .inPlace, restoreCommand: fetch, archive: archive)
    let reader = run.repository.reader(for: backup, decoding: run.decoding)
    _ = try await run.measure(self, "one dropped table, out of the base backup") {
      try await recovery.recover(from: reader, to: .time(moment), logger: run.logger)
    }
    let after = try await ask(content)
    run.check(self, "a dropped table came back from the base backup", before == after && !before.isEmpty, after)
  }

  /// The nightly dump into a database of its own.
  func restoreDump(into server: PostgresConnectionSettings, _ rowCounts: PostgresRowCounts?, _ run: DrillRun)
    async throws
  {
    let dumps = try dumps
    let found = try await run.repository.catalog(of: dumps).backup(of: dumps, for: .latest)
    try await PostgresConnection.withConnection(server, logger: run.logger) {
      _ = try await $0.query("CREATE DATABASE from_dump")
    }
    let reader = run.repository.reader(for: found, decoding: run.decoding)
    _ = try await run.measure(self, "the nightly dump, into a new database") {
      try await PostgresDumpRestorer(server: server, database: "from_dump", format: .custom)
        .restore(from: reader, to: .latest, logger: run.logger)
    }
    var counts = try await PostgresRowCounts.count(server, databases: ["from_dump"], logger: run.logger)
    counts.databases["from_dump"]?["public.ledger"] = nil
    let (held, wanted) = (counts.databases["from_dump"] ?? [:], rowCounts?.databases["postgres"] ?? [:])
    run.check(
      self, "the nightly dump holds every row", held == wanted && !wanted.isEmpty,
      held.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))
  }
}
