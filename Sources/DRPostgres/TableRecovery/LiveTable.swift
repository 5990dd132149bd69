import DRCore
import DRSandbox
import Logging

/// The running server that gets a table back.
struct LiveTable: Sendable {
  let server: PostgresConnectionSettings
  let database: String
  let table: String
  private let version: Int
  private let schema: String
  private let logger: Logger

  /// How long the server may work on one statement.
  private static let limit: Duration = .seconds(6 * 3600)

  init(_ server: PostgresConnectionSettings, _ table: String, _ logger: Logger) async throws {
    var settings = server
    settings.timeLimit = LiveTable.limit
    self.server = settings
    self.table = table
    self.logger = logger
    (database, version, schema) = try await PostgresConnection.withConnection(settings, logger: logger) { connection in
      guard try await connection.query("SELECT pg_is_in_recovery()").single == "f" else {
        throw DRError(.notWritable, "the server is a standby: it takes no table", advice: "name its primary")
      }
      let parts: String?
      do {
        // Where the table is or, if it is gone, where it would be made.
        parts = try await connection.query(
          """
          SELECT coalesce((SELECT nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE c.oid = to_regclass($1)),
            CASE WHEN array_length(parse_ident($1), 1) > 1 THEN (parse_ident($1))[1] ELSE current_schema() END)
          """, [table]
        ).single
      } catch let error as DRError where error.sqlState == "22023" {
        throw DRError(
          .invalidConfiguration, "'\(table.prefix(100))' is no table's name", advice: "write table, or schema.table")
      }
      return (
        try await connection.query("SELECT current_database()").single ?? "",
        try await connection.serverVersionNumber / 10_000, parts ?? "public"
      )
    }
  }

  private func query(_ sql: String, _ parameters: [String?] = []) async throws -> PostgresRows {
    try await PostgresConnection.withConnection(server, logger: logger) { try await $0.query(sql, parameters) }
  }

  func exists() async throws -> Bool { try await query("SELECT to_regclass($1)", [table]).single != nil }

  func refuseTaken(_ name: String) async throws {
    let full = TableName(schema: schema, name: name).sql
    guard try await query("SELECT to_regclass($1)", [full]).single != nil else { return }
    throw DRError(
      .destinationInUse, "there is something of the name \(full) already: nothing was touched",
      advice: "choose another name for the table", object: full)
  }

  /// A name with a suffix that nothing has yet: another table may have been brought back in the same second.
  func free(_ name: TableName, _ suffix: String) async throws -> TableName {
    for number in 1...100 {
      let wanted = TableName(
        schema: name.schema, name: name.name.suffixed(number == 1 ? suffix : "\(suffix)_\(number)"))
      // The schema may be gone, and comes back with the table.
      if try await query("SELECT to_regclass($1)", [wanted.sql]).single == nil { return wanted }
    }
    throw DRError(
      .destinationInUse, "a hundred tables have the name that \(name.sql) would get",
      advice: "choose a name for the table", object: name.sql)
  }

  func refuseOtherColumns(_ columns: [String]) async throws {
    let own = try await query(TableColumns.query, [table]).compactMap { $0[0] }
    guard own != columns else { return }
    let (gone, new) = (Set(columns).subtracting(own).sorted(), Set(own).subtracting(columns).sorted())
    throw DRError(
      .invalidConfiguration,
      "the table has other columns than at that moment: nothing was touched. Then, not now: "
        + "\(gone.isEmpty ? "none" : gone.joined(separator: ", ")); now, not then: \(new.isEmpty ? "none" : new.joined(separator: ", "))",
      advice: "bring it back beside, and take from it what you need", object: table)
  }

  /// Streams a table out of the sandbox into this server, in one transaction.
  ///
  /// - Parameter isPlain: It belongs to whoever restores, without grants.
  func load(from copy: RecoveredTable, _ name: TableName, isPlain: Bool) async throws {
    let dump = try await ClientProgram.find(
      "pg_dump", server: copy.sandbox.installation.majorVersion)
    let psql = try await ClientProgram.find("psql", server: version)
    let source = copy.sandbox.settings.with(database: copy.database)
    let more = isPlain ? ["--no-owner", "--no-privileges"] : []
    let target = server
    let result = try await withOutput(
      of: dump.path,
      ["--format=plain", "--no-password", "--table=\(name.pattern)", "--dbname=\(source.conninfoForPrograms)"] + more,
      environment: source.password.map { ["PGPASSWORD": $0] } ?? [:], silence: LiveTable.limit
    ) { content in
      try await runProgram(
        psql.path,
        [
          "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--single-transaction", "--file=-",
          "--output=/dev/null", "--dbname=\(target.conninfoForPrograms)",
        ], environment: ClientProgram.environment(target), input: DumpEnds.plain.checking(content, name.sql),
        silence: LiveTable.limit)
    }.result
    guard result.status == 0 else {
      throw DRError(
        .programFailed, "the server refused the table: \(result.error.lastLines(4))",
        advice: "nothing was changed; what it refers to (types, roles, other tables) must be there", object: name.sql)
    }
  }

  func drop(_ name: TableName) async throws { _ = try await query("DROP TABLE IF EXISTS \(name.sql)") }

  /// Puts the rows of one table into the place of another's, all or nothing, and keeps those.
  func replaceRows(of name: TableName, from new: TableName, keeping former: TableName) async throws {
    try await PostgresConnection.withConnection(server, logger: logger) { connection in
      let stored =
        try await connection.query(
          """
          SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_attribute
          WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
          """, [name.sql]
        ).single ?? ""
      // Triggers stay silent; what foreign keys would have said is asked afterwards.
      try await connection.query(
        """
        BEGIN; LOCK TABLE \(name.sql) IN ACCESS EXCLUSIVE MODE; SET LOCAL session_replication_role = replica;
        CREATE TABLE \(former.sql) AS TABLE \(name.sql); DELETE FROM \(name.sql);
        INSERT INTO \(name.sql) (\(stored)) OVERRIDING SYSTEM VALUE SELECT \(stored) FROM \(new.sql)
        """)
      let broken = try await brokenForeignKeys(of: name, connection)
      guard broken.isEmpty else {
        try await connection.query("ROLLBACK")
        throw DRError(
          .sourceFailed, "with these rows, foreign keys would not hold: \(broken.joined(separator: ", "))",
          advice: "nothing was changed; bring it back beside, and take from it what you need", object: name.sql)
      }
      try await connection.query("DROP TABLE \(new.sql); COMMIT")
    }
  }

  /// The foreign keys from and to a table that some row breaks.
  private func brokenForeignKeys(of name: TableName, _ connection: PostgresConnection) async throws -> [String] {
    let keys = try await connection.query(
      """
      SELECT conname, conrelid::regclass, confrelid::regclass,
        (SELECT string_agg(format('r.%I = k.%I', kt.attname, rt.attname), ' AND ' ORDER BY i)
          FROM unnest(conkey, confkey) WITH ORDINALITY AS u (k, r, i)
          JOIN pg_attribute kt ON kt.attrelid = confrelid AND kt.attnum = u.r
          JOIN pg_attribute rt ON rt.attrelid = conrelid AND rt.attnum = u.k),
        (SELECT string_agg(format('k.%I IS NOT NULL', attname), ' AND ')
          FROM unnest(conkey) AS k JOIN pg_attribute ON attrelid = conrelid AND attnum = k)
      FROM pg_constraint
      WHERE contype = 'f' AND conparentid = 0 AND $1::regclass IN (conrelid, confrelid)
      """, [name.sql])
    var broken: [String] = []
    for key in keys {
      guard let constraint = key[0], let from = key[1], let to = key[2], let same = key[3], let isSet = key[4] else {
        continue
      }
      let orphans = try await connection.query(
        "SELECT count(*) FROM \(from) k WHERE \(isSet) AND NOT EXISTS (SELECT FROM \(to) r WHERE \(same))"
      ).single
      if orphans != "0" { broken.append("\(constraint) of \(from) (\(orphans ?? "?") rows)") }
    }
    return broken
  }
}
