import DRCore
import Foundation
import Logging

/// The database that a dump is restored into.
struct DumpDestination {
  let server: PostgresConnectionSettings
  let database: String
  let allowsData: Bool

  /// Makes it, unless it is there and may be used.
  ///
  /// - Returns: The major version of the server, and whether the database was made.
  /// - Throws: ``DRError``: `destinationInUse` if it holds tables; nothing was touched then.
  func prepare(for manifest: BackupManifest, logger: Logger) async throws -> (version: Int, isNew: Bool) {
    let (version, isThere) = try await PostgresConnection.withConnection(
      server.database == nil ? server.with(database: "postgres") : server, logger: logger
    ) { connection in
      let version = try await connection.serverVersionNumber / 10_000
      let count = try await connection.query("SELECT count(*) FROM pg_database WHERE datname = $1", [database]).single
      if count == "0" { try await create(connection, as: manifest.properties) }
      return (version, count != "0")
    }
    guard isThere, !allowsData else { return (version, !isThere) }
    let tables = try await PostgresConnection.withConnection(server.with(database: database), logger: logger) {
      try await $0.query(
        """
        SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND \(PostgresConnection.isUserSchema())
        """
      ).single
    }
    guard tables == "0" else {
      throw DRError(
        .destinationInUse, "the database holds \(tables ?? "some") tables, views and sequences: nothing was touched",
        advice: "restore into a new database, or give --into-existing: none of them is dropped or emptied then",
        object: database)
    }
    return (version, false)
  }

  /// Rows that are restored alone go through the triggers of the tables that are there.
  ///
  /// - Throws: ``DRError`` with `destinationInUse` naming them.
  func refuseTriggers(logger: Logger) async throws {
    let triggers = try await PostgresConnection.withConnection(server.with(database: database), logger: logger) {
      try await $0.query(
        """
        SELECT format('%I on %I.%I', tgname, nspname, relname) FROM pg_trigger t
        JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace
        WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') AND \(PostgresConnection.isUserSchema()) ORDER BY 1
        """
      ).compactMap { $0[0] }
    }
    guard !triggers.isEmpty else { return }
    throw DRError(
      .destinationInUse,
      "rows that are restored alone go through the triggers that are there (\(triggers.prefix(5).joined(separator: ", "))"
        + "\(triggers.count > 5 ? ", …" : "")), which may change them: nothing was touched",
      advice: "give --triggers disable (as a superuser), or --triggers fire if that is wanted", object: database)
  }

  /// With encoding and collation of the one that was dumped.
  private func create(_ connection: PostgresConnection, as properties: [String: JSONValue]) async throws {
    func quoted(_ text: String) -> String { "'" + text.replacing("'", with: "''") + "'" }
    let name = "\"" + database.replacing("\"", with: "\"\"") + "\""
    var sql = "CREATE DATABASE \(name) TEMPLATE template0"
    let clauses = [
      ("encoding", "ENCODING"), ("collate", "LC_COLLATE"), ("ctype", "LC_CTYPE"),
      ("icuLocale", "LOCALE_PROVIDER icu ICU_LOCALE"),
    ]
    for (field, clause) in clauses {
      if let value = properties[field]?.string { sql += " \(clause) = \(quoted(value))" }
    }
    try await connection.query(
      sql.replacing("LOCALE_PROVIDER icu ICU_LOCALE =", with: "LOCALE_PROVIDER icu ICU_LOCALE"))
  }
}
