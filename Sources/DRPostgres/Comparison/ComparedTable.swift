import DRCore

/// One side's table, as a comparison reads it.
struct ComparedTable {
  let name: String
  /// The columns of the primary key in order, quoted; nil if there is none.
  let key: [String]?
  /// All columns by name, quoted: their order in the table does not matter.
  private let columns: [String]
  /// The first column of the key, so that both sides order it alike whatever their collations, and its type.
  private let first: (ordered: String, type: String)?

  /// What is known of a part: how many rows, and the sum of their digests, which does not depend on their order.
  struct Part: Hashable {
    var rows: Int64
    var digest: String
  }

  /// Nil if there is no such table.
  init?(_ name: String, _ connection: PostgresConnection) async throws {
    let row = try await connection.query(
      """
      SELECT (SELECT string_agg(quote_ident(attname), chr(1) ORDER BY attname) FROM pg_attribute
          WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
        (SELECT string_agg(quote_ident(attname), chr(1) ORDER BY array_position(i.indkey::int[], attnum::int))
          FROM pg_index i JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
          WHERE indrelid = c.oid AND indisprimary),
        k.name, k.type
      FROM pg_class c LEFT JOIN LATERAL (
        SELECT quote_ident(attname) || CASE WHEN attcollation = 0 THEN '' ELSE ' COLLATE "C"' END AS name, atttypid::regtype::text AS type
        FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE indrelid = c.oid AND indisprimary) k ON true
      WHERE c.oid = to_regclass($1)
      """, [name]
    ).first
    guard let row else { return nil }
    func list(_ text: String?) -> [String]? { text.map { $0.split(separator: "\u{1}").map(String.init) } }
    self.name = name
    columns = list(row[0]) ?? []
    key = list(row[1])
    first = row[2].flatMap { name in row[3].map { (name, $0) } }
  }

  /// The first 64 bits of each row's MD5: a checksum against chance, not against whoever forges rows.
  private var digest: String {
    "('x' || left(md5(ROW(\(columns.joined(separator: ", ")))::text), 16))::bit(64)::bigint"
  }

  /// Where parts of about so many rows begin, by the first column of the primary key: an array, as SQL text.
  func bounds(_ connection: PostgresConnection, _ rowsPerPart: Int) async throws -> String? {
    guard let first else { return nil }
    return try await connection.query(
      """
      SELECT array_agg(DISTINCT k ORDER BY k)::text FROM (
        SELECT \(first.ordered) AS k, row_number() OVER (ORDER BY \(first.ordered)) AS n FROM ONLY \(name)) s
      WHERE n % \(rowsPerPart) = 1
      """
    ).single
  }

  private func bucket(_ bounds: String?) -> String {
    guard bounds != nil, let first else { return "0" }
    return "width_bucket(\(first.ordered), (SELECT ($1::text)::\(first.type)[]))"
  }

  func parts(_ connection: PostgresConnection, _ bounds: String?) async throws -> [Int: Part] {
    let rows = try await connection.query(
      """
      SELECT \(bucket(bounds)), count(*), coalesce(sum(\(digest)::numeric), 0) FROM ONLY \(name) GROUP BY 1
      """, bounds.map { [$0] } ?? [])
    var parts: [Int: Part] = [:]
    for row in rows {
      if let part = row[0].flatMap({ Int($0) }), let count = row[1].flatMap({ Int64($0) }), let digest = row[2] {
        parts[part] = Part(rows: count, digest: digest)
      }
    }
    return parts
  }

  /// The digest of each row of a part, by its key as text.
  func rows(_ connection: PostgresConnection, _ bounds: String?, part: Int) async throws -> [String: String] {
    let rows = try await connection.query(
      """
      SELECT ROW(\((key ?? []).joined(separator: ", ")))::text, \(digest) FROM ONLY \(name)
      WHERE \(bucket(bounds)) = \(part)
      """, bounds.map { [$0] } ?? [])
    var digests: [String: String] = [:]
    for row in rows { if let key = row[0], let digest = row[1] { digests[key] = digest } }
    return digests
  }
}
