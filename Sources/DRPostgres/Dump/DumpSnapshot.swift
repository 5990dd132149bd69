import DRCore
import Foundation

/// One moment of a database that several programs can look at, for as long as the transaction is open that has made it.
struct DumpSnapshot: Sendable {
  /// What `pg_dump --snapshot` takes.
  let identity: String
  let position: LSN
  let time: Date
  /// Nil on a standby, which does not say it.
  let timeline: UInt32?
  let systemIdentifier: String?
  /// About how many bytes the tables take in the server, as it counted them last: a guess of the dump's length. Asking for
  /// their sizes would wait for who holds them.
  let size: Int64?

  init(_ connection: PostgresConnection) async throws {
    let row = try await connection.query(
      """
      SELECT pg_export_snapshot(),
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
        (extract(epoch FROM now()) * 1000000)::bigint, pg_is_in_recovery(),
        (SELECT sum(relpages::bigint) * current_setting('block_size')::bigint FROM pg_class
          WHERE relkind IN ('r', 'm', 't') AND relpersistence <> 't')
      """
    ).first
    guard let row, let identity = row[0], let position = row[1].flatMap({ LSN($0) }),
      let time = row[2].flatMap({ Double($0) })
    else { throw DRError(.sourceFailed, "the server exports no snapshot") }
    self.identity = identity
    self.position = position
    self.time = Date(timeIntervalSince1970: time / 1_000_000)
    size = row[4].flatMap { Int64($0) }
    var (system, timeline): (String?, UInt32?) = (nil, nil)
    // A right that roles can be denied; what it gives is worth little without it.
    let isAllowed =
      try await connection.query(
        """
        SELECT has_function_privilege('pg_control_system()', 'EXECUTE') AND
          has_function_privilege('pg_control_checkpoint()', 'EXECUTE')
        """
      ).single == "t"
    if isAllowed {
      system = try await connection.query("SELECT system_identifier FROM pg_control_system()").single
      if row[3] == "f" {
        timeline = try await connection.query("SELECT timeline_id FROM pg_control_checkpoint()").single.flatMap {
          UInt32($0)
        }
      }
    }
    systemIdentifier = system
    self.timeline = timeline
  }

  /// What a new database has to be made with to take the dump.
  static func nature(_ connection: PostgresConnection) async throws -> [String: JSONValue] {
    // The ICU locale's column has another name in each of three versions.
    let row = try await connection.query(
      """
      SELECT pg_encoding_to_char(encoding), datcollate, datctype,
        coalesce(to_jsonb(d) ->> 'daticulocale', CASE WHEN to_jsonb(d) ->> 'datlocprovider' = 'i' THEN to_jsonb(d) ->> 'datlocale' END)
      FROM pg_database d WHERE datname = current_database()
      """
    ).first
    var nature: [String: JSONValue] = [:]
    for (index, name) in ["encoding", "collate", "ctype", "icuLocale"].enumerated() {
      if let value = row?[index] { nature[name] = .string(value) }
    }
    return nature
  }

  /// What each table holds in this snapshot: its size in the server, and its rows if they are counted.
  func tables(_ connection: PostgresConnection, counting: Bool) async throws -> [String: JSONValue] {
    var tables: [String: JSONValue] = [:]
    for table in try await connection.countableTables() {
      let size = try await connection.query("SELECT pg_total_relation_size($1::text::regclass)", [table]).single.flatMap
      { Int64($0) }
      var fields: [String: JSONValue] = ["bytes": .integer(size ?? 0)]
      if counting { fields["rows"] = .integer(try await connection.countRows(table)) }
      tables[table] = .object(fields)
    }
    return tables
  }
}
