import DRCore
import DRSandbox
import Logging

/// The table as it was, in the sandbox.
struct RecoveredTable: Sendable {
  let sandbox: PostgresSandbox
  let database: String
  let table: String
  let logger: Logger

  /// Its name as the recovered server has it; nil if there is none.
  func name() async throws -> TableName? {
    let row: [String?]?
    do {
      row = try await sandbox.query(
        """
        SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE c.oid = to_regclass($1) AND relkind IN ('r', 'p')
        """, [table], database: database
      ).first.map { [$0[0], $0[1]] }
    } catch let error as DRError where error.sqlState == "3D000" {
      throw DRError(
        .objectNotFound, "there was no database \(database) at that moment", advice: "choose another moment",
        object: database)
    }
    guard let schema = row?[0], let name = row?[1] else { return nil }
    return TableName(schema: schema, name: name)
  }

  func count(_ name: TableName) async throws -> Int64 {
    try await Int64(sandbox.query("SELECT count(*) FROM \(name.sql)", database: database).single ?? "") ?? 0
  }

  /// Name and type of each column, in order.
  func columns(_ name: TableName) async throws -> [String] {
    try await sandbox.query(TableColumns.query, [name.sql], database: database).compactMap { $0[0] }
  }

  /// Makes a copy under another name that stands by itself: rows, columns, indexes and checks, without what refers to other
  /// objects. The sandbox is thrown away, so that it can be made there. Returns how many rows it has.
  func stage(as new: TableName) async throws -> Int64 {
    guard let old = try await name() else { return 0 }
    let stored = try await sandbox.query(
      """
      SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
      WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
      """, [old.sql], database: database
    ).single
    guard let stored else {
      throw DRError(.unsupported, "a table without columns cannot be brought back", object: table)
    }
    try await sandbox.query(
      """
      CREATE TABLE \(new.sql) (LIKE \(old.sql) INCLUDING ALL EXCLUDING DEFAULTS EXCLUDING IDENTITY);
      INSERT INTO \(new.sql) (\(stored)) SELECT \(stored) FROM \(old.sql)
      """, database: database, limit: .seconds(6 * 3600))
    return try await count(new)
  }
}

enum TableColumns {
  /// What two tables must have in common for the rows of one to be those of the other.
  static let query = """
    SELECT format('%s %s%s', attname, format_type(atttypid, atttypmod), CASE attgenerated WHEN '' THEN '' ELSE ' generated' END)
    FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname
    """
}
