import DRCore
public import Logging

/// How many rows the tables of each database hold: counted on the source, compared after a restore.
public struct PostgresRowCounts: Sendable, Hashable, Codable {
  /// By database, then by table as `schema.table`, quoted as SQL needs it.
  public var databases: [String: [String: Int64]]

  public init(databases: [String: [String: Int64]]) { self.databases = databases }

  /// Counts every table. It reads all of them.
  ///
  /// - Parameter databases: Nil: every database that takes connections and is no template.
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`.
  public static func count(
    _ settings: PostgresConnectionSettings, databases: [String]? = nil, limit: Duration = .seconds(3600), logger: Logger
  ) async throws -> PostgresRowCounts {
    var counts = PostgresRowCounts(databases: [:])
    let names =
      if let databases { databases } else { try await PostgresProbes.databases(of: settings, logger: logger) }
    for name in names {
      let database = ProbedDatabase(name: name, settings: settings.with(database: name), limit: limit, logger: logger)
      counts.databases[name] = try await database.read { connection in
        var tables: [String: Int64] = [:]
        for table in try await connection.countableTables() { tables[table] = try await connection.countRows(table) }
        return tables
      }
    }
    return counts
  }
}

extension PostgresConnection {
  /// Tables that hold rows of their own. Temporary tables are not there after a restore, unlogged ones are empty then.
  func countableTables() async throws -> [String] {
    try await relations(where: "relkind IN ('r', 'm') AND relpersistence = 'p' AND relispopulated")
  }

  /// Those of the users' schemas for which a condition on `pg_class` holds, as `schema.name`, quoted as SQL needs it.
  func relations(where condition: String) async throws -> [String] {
    try await query(
      """
      SELECT format('%I.%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE \(condition) AND \(Self.isUserSchema())
      ORDER BY 1
      """
    ).compactMap { $0[0] }
  }

  func countRows(_ table: String) async throws -> Int64 {
    guard let text = try await query("SELECT count(*) FROM ONLY \(table)").single, let count = Int64(text) else {
      throw DRError(.sourceFailed, "no count", object: table)
    }
    return count
  }

  /// A condition on `pg_namespace`, whose alias has its dot: not the server's own.
  static func isUserSchema(_ alias: String = "") -> String {
    "\(alias)nspname !~ '^pg_' AND \(alias)nspname <> 'information_schema'"
  }
}
