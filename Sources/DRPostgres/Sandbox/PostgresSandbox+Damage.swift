import DRCore
import Logging

extension PostgresSandbox {
  /// Removes one row, past every rule: to see that a verifier notices.
  ///
  /// - Parameter table: As SQL needs it quoted.
  /// - Throws: ``DRError`` with `sourceFailed`, also if there was none.
  package nonisolated func removeRow(of table: String, in database: String) async throws {
    let logger = Logger(label: "postgres.sandbox", factory: { _ in SwiftLogNoOpLogHandler() })
    try await PostgresConnection.withConnection(settings.with(database: database), logger: logger) { connection in
      try await connection.query("SET session_replication_role = replica")
      let removed = try await connection.query(
        "DELETE FROM ONLY \(table) WHERE ctid = (SELECT ctid FROM ONLY \(table) LIMIT 1) RETURNING 1")
      guard removed.count == 1 else { throw DRError(.sourceFailed, "no row was removed", object: table) }
    }
  }
}
