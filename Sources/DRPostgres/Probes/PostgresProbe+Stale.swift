import DRCore

extension PostgresProbe {
  /// Every materialised view holds data: one that does not makes each query of it fail.
  public static let materializedViews = PostgresProbe("materialized-views") { database in
    try await database.read { connection in
      let views = try await connection.query(
        """
        SELECT format('%I.%I', nspname, relname), relispopulated FROM pg_class
        JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'm' ORDER BY 1
        """)
      let empty = views.filter { $0[1] == "f" }
      guard empty.isEmpty else {
        return empty.map { view in
          Finding(
            "materialized-views", .failure, subject: database.subject(view[0] ?? "view"),
            evidence: "it is not populated",
            advice: "REFRESH MATERIALIZED VIEW")
        }
      }
      return [
        Finding(
          "materialized-views", views.isEmpty ? .notice : .passed, subject: database.name,
          evidence: views.isEmpty ? "there are none" : "\(views.count) views, all populated")
      ]
    }
  }

  /// The collations are those that the indexes were built with. On a system that sorts otherwise, an index over text does
  /// not find what is there, and a unique one lets duplicates in.
  public static let collations = PostgresProbe("collations") { database in
    try await database.read { connection in
      // Version 15 is the first to keep that of the database.
      let hasDatabaseVersion = try await connection.serverVersionNumber >= 150_000
      let mismatches = try await connection.query(
        """
        SELECT format('%I.%I', nspname, collname) AS name, collversion AS built, pg_collation_actual_version(c.oid) AS here,
          EXISTS (SELECT FROM pg_index WHERE c.oid = ANY (indcollation)) AS used
        FROM pg_collation c JOIN pg_namespace n ON n.oid = collnamespace
        WHERE collprovider <> 'd' AND collversion IS NOT NULL
          AND collversion IS DISTINCT FROM pg_collation_actual_version(c.oid)
        \(hasDatabaseVersion ? """
          UNION ALL
          SELECT 'the default', datcollversion, pg_database_collation_actual_version(oid),
            EXISTS (SELECT FROM pg_index WHERE 100 = ANY (indcollation))
          FROM pg_database WHERE datname = current_database() AND datcollversion IS NOT NULL
            AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
          """ : "")
        ORDER BY 1
        """)
      let used = mismatches.filter { $0["used"] == "t" }
      guard used.isEmpty else {
        return used.map { collation in
          Finding(
            "collations", .failure, subject: database.subject("collation \(collation["name"] ?? "")"),
            evidence:
              "indexes were built with version \(collation["built"] ?? "none"); here it is \(collation["here"] ?? "none")",
            advice: "REINDEX what uses it, then ALTER COLLATION (or DATABASE) … REFRESH VERSION")
        }
      }
      return [
        Finding(
          "collations", mismatches.isEmpty ? .passed : .notice, subject: database.name,
          evidence: mismatches.isEmpty
            ? "each is the version that indexes were built with"
            : "\(mismatches.count) of another version, which no index uses")
      ]
    }
  }
}
