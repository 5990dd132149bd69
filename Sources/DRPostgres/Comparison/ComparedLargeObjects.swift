import DRCore

/// One side's large objects, as a comparison reads them: by their number, which dumps and restores keep.
struct ComparedLargeObjects {
  struct Content: Hashable {
    var size: Int64
    var digest: String
  }

  /// How many there are, which everybody may know.
  let count: Int64
  /// Nil: this user may not read some of them.
  let contents: [String: Content]?

  /// Read in pieces: one can be larger than a value may be.
  private static let piece = 8 << 20

  init(_ connection: PostgresConnection) async throws {
    let counted = try await connection.query("SELECT count(*) FROM pg_largeobject_metadata").single
    count = counted.flatMap { Int64($0) } ?? 0
    guard count > 0 else {
      contents = [:]
      return
    }
    // A refusal would end the transaction in which everything is compared.
    try await connection.query("SAVEPOINT large_objects")
    do {
      contents = try await ComparedLargeObjects.read(connection)
    } catch let error as DRError where error.sqlState == "42501" {
      try await connection.query("ROLLBACK TO SAVEPOINT large_objects")
      contents = nil
    }
  }

  private static func read(_ connection: PostgresConnection) async throws -> [String: Content] {
    func digest(_ offset: String) -> String {
      // OFFSET 0: what was read is both measured and digested, and read once.
      """
      LATERAL (SELECT length(bytes) AS size, md5(bytes) AS digest
        FROM (SELECT lo_get(oid, \(offset), \(piece)) AS bytes OFFSET 0) b) p
      """
    }
    let rows = try await connection.query(
      """
      WITH RECURSIVE pieces AS (
        SELECT oid, 0::bigint AS number, size, digest FROM pg_largeobject_metadata, \(digest("0"))
        UNION ALL
        SELECT oid, number + 1, p.size, p.digest FROM pieces, \(digest("(number + 1) * \(piece)")) WHERE pieces.size = \(piece))
      SELECT oid, sum(size), md5(string_agg(digest, '' ORDER BY number)) FROM pieces GROUP BY oid
      """)
    var contents: [String: Content] = [:]
    for row in rows {
      if let number = row[0], let size = row[1].flatMap({ Int64($0) }), let digest = row[2] {
        contents[number] = Content(size: size, digest: digest)
      }
    }
    return contents
  }
}
