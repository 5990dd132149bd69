import DRCore
public import Logging

public import struct Foundation.Date

/// What a server holds and how fast it answers, recorded right before a backup, to be compared after a restore.
///
/// No row is in it: numbers of rows, names and types of columns, the newest moment of columns that say when a row was changed, and how long
/// queries took.
public struct PostgresBaseline: Sendable, Hashable {
  /// A query that the platform lives on.
  public struct Query: Sendable, Hashable, Codable {
    public var name: String
    public var database: String
    public var sql: String
    /// The best of three.
    public var milliseconds: Double

    public init(name: String, database: String, sql: String, milliseconds: Double = 0) {
      self.name = name
      self.database = database
      self.sql = sql
      self.milliseconds = milliseconds
    }

    private enum CodingKeys: String, CodingKey, CaseIterable { case name, database, sql, milliseconds }

    public init(from decoder: any Decoder) throws {
      let fields = try decoder.known(CodingKeys.self)
      name = try fields.decode(String.self, forKey: .name)
      database = try fields.decode(String.self, forKey: .database)
      sql = try fields.decode(String.self, forKey: .sql)
      milliseconds = try fields.decode(Double.self, forKey: .milliseconds)
    }
  }

  /// On the server's clock, when it was begun.
  public var taken: Date
  public var rowCounts: PostgresRowCounts
  /// By database, then by table as `schema.table`: the columns in their order, `name type not null`.
  public var columns: [String: [String: [String]]]
  /// By database, then by `schema.table.column`: the newest value of columns of time whose names say that a row was changed.
  public var newest: [String: [String: String]]
  public var queries: [Query]

  /// Records a server. It reads all of every table.
  ///
  /// - Parameter queries: Each is run three times.
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`; `malformedData` for a clock that says nothing.
  public static func take(
    _ settings: PostgresConnectionSettings, queries: [Query] = [], limit: Duration = .seconds(3600), logger: Logger
  ) async throws -> PostgresBaseline {
    let text = try await PostgresConnection.withConnection(settings, logger: logger) {
      try await $0.query("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").single
    }
    guard let taken = text.flatMap({ Timestamp.parse($0) }) else {
      throw DRError(.malformedData, "the server's clock says '\((text ?? "nothing").prefix(40))'")
    }
    var baseline = PostgresBaseline(
      taken: taken, rowCounts: try await .count(settings, limit: limit, logger: logger), columns: [:], newest: [:],
      queries: [])
    for name in baseline.rowCounts.databases.keys {
      let database = ProbedDatabase(name: name, settings: settings.with(database: name), limit: limit, logger: logger)
      (baseline.columns[name], baseline.newest[name]) = try await database.read { connection in
        (try await connection.columnsOfTables(), try await connection.newestMoments())
      }
    }
    for query in queries {
      var timed = query
      let database = ProbedDatabase(
        name: query.database, settings: settings.with(database: query.database), limit: limit, logger: logger)
      timed.milliseconds = try await database.time(query.sql)
      baseline.queries.append(timed)
    }
    return baseline
  }
}

extension PostgresBaseline: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case taken, rows, columns, newest, queries }

  /// A field that is not known is an error.
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    let text = try fields.decode(String.self, forKey: .taken)
    guard let taken = Timestamp.parse(text) else {
      throw DecodingError.dataCorruptedError(forKey: .taken, in: fields, debugDescription: "this is no moment")
    }
    self.taken = taken
    rowCounts = PostgresRowCounts(databases: try fields.decode([String: [String: Int64]].self, forKey: .rows))
    columns = try fields.decode([String: [String: [String]]].self, forKey: .columns)
    newest = try fields.decode([String: [String: String]].self, forKey: .newest)
    queries = try fields.decode([Query].self, forKey: .queries)
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(Timestamp.format(taken), forKey: .taken)
    try fields.encode(rowCounts.databases, forKey: .rows)
    try fields.encode(columns, forKey: .columns)
    try fields.encode(newest, forKey: .newest)
    try fields.encode(queries, forKey: .queries)
  }
}

extension PostgresConnection {
  /// By table: its columns with their types.
  func columnsOfTables() async throws -> [String: [String]] {
    var tables: [String: [String]] = [:]
    for row in try await query(
      """
      SELECT format('%I.%I', nspname, relname), quote_ident(attname) || ' ' || format_type(atttypid, atttypmod)
        || CASE WHEN attnotnull THEN ' not null' ELSE '' END
      FROM pg_attribute a JOIN pg_class t ON t.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't' AND attnum > 0 AND NOT attisdropped
        AND \(Self.isUserSchema()) ORDER BY 1, attnum
      """)
    {
      if let table = row[0], let column = row[1] { tables[table, default: []].append(column) }
    }
    return tables
  }

  /// By `schema.table.column`: the newest moment, in UTC, of each column that says when a row was changed; none for an empty table.
  func newestMoments() async throws -> [String: String] {
    try await query("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'")
    var moments: [String: String] = [:]
    for row in try await query(
      """
      SELECT format('%I.%I', nspname, relname), quote_ident(attname)
      FROM pg_attribute a JOIN pg_class t ON t.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind = 'r' AND relpersistence = 'p' AND attnum > 0 AND NOT attisdropped AND \(Self.isUserSchema())
        AND atttypid IN ('timestamp'::regtype, 'timestamptz'::regtype) AND attname ~* '(updat|modif|chang)' ORDER BY 1, 2
      """)
    {
      guard let table = row[0], let column = row[1] else { continue }
      moments["\(table).\(column)"] = try await query("SELECT max(\(column))::text FROM ONLY \(table)").single
    }
    return moments
  }
}

extension ProbedDatabase {
  /// The best of three, in milliseconds, with the indexes that a client has.
  ///
  /// - Throws: ``DRError`` if the query fails; what it answers is in no message.
  func time(_ sql: String) async throws -> Double {
    var settings = settings
    settings.timeLimit = limit
    return try await PostgresConnection.withConnection(settings, logger: logger) { connection in
      try await connection.query("SET default_transaction_read_only = on")
      var best = Duration.seconds(1_000_000)
      for _ in 0..<3 {
        let start = ContinuousClock.now
        do {
          try await connection.query(sql)
        } catch let error as DRError where error.sqlState != nil {
          throw DRError(.sourceFailed, "the query failed: SQLSTATE \(error.sqlState ?? "")")
        }
        best = min(best, start.duration(to: .now))
      }
      return best / .milliseconds(1)
    }
  }
}
