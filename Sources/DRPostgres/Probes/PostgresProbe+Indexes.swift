import DRCore

extension PostgresProbe {
  /// Every index is one that the server uses.
  public static let indexes = PostgresProbe("indexes") { database in
    try await database.read { connection in
      let bad = try await connection.query(
        """
        SELECT format('%I.%I', nspname, c.relname), indisvalid, indisready, c.relkind = 'I'
        FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT (indisvalid AND indisready AND indislive) ORDER BY 1
        """)
      let count = try await connection.query("SELECT count(*) FROM pg_index").single ?? "?"
      guard !bad.isEmpty else {
        return [
          Finding("indexes", .passed, subject: database.name, evidence: "\(count) indexes, all valid and ready")
        ]
      }
      return bad.map { index in
        // A partitioned one holds nothing itself: it is invalid as long as a partition lacks its part.
        let partitioned = index[3] == "t"
        return Finding(
          "indexes", partitioned ? .warning : .failure, subject: database.subject(index[0] ?? "index"),
          evidence: partitioned ? "a partition has no index that belongs to it" : "the server does not use it",
          advice: partitioned ? "create and attach the missing index" : "REINDEX INDEX CONCURRENTLY, or drop it")
      }
    }
  }

  /// No two rows are the same where a unique index says that none are: read from the tables, because a damaged index
  /// lets them in.
  public static let uniqueness = PostgresProbe("uniqueness") { database in
    try await database.read { connection in
      let indexes = try await connection.query(
        """
        SELECT format('%I.%I', n.nspname, c.relname) AS index, format('%I.%I', tn.nspname, t.relname) AS table,
          (SELECT string_agg(format('(%s)', pg_get_indexdef(indexrelid, k, false)), ', ' ORDER BY k)
            FROM generate_series(1, indnkeyatts) k) AS keys,
          (SELECT string_agg(format('(%s) IS NOT NULL', pg_get_indexdef(indexrelid, k, false)), ' AND ' ORDER BY k)
            FROM generate_series(1, indnkeyatts) k) AS present,
          pg_get_expr(indpred, indrelid) AS predicate,
          coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_too
        FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_class t ON t.oid = indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
        WHERE indisunique AND NOT indisexclusion AND t.relkind IN ('r', 'm') AND t.relispopulated
          AND \(PostgresConnection.isUserSchema("tn."))
        ORDER BY 2, 1
        """)
      var findings: [Finding] = []
      for index in indexes {
        guard let name = index["index"], let table = index["table"], let keys = index["keys"],
          let present = index["present"]
        else { continue }
        var conditions = index["nulls_too"] == "t" ? [] : [present]
        if let predicate = index["predicate"] { conditions.append("(\(predicate))") }
        let rule = conditions.isEmpty ? "true" : conditions.joined(separator: " AND ")
        // More than one row of a key: counted as the rows that are too many.
        let extra = try await connection.query(
          """
          SELECT coalesce(sum(rows - 1), 0) FROM (
            SELECT count(*) AS rows FROM ONLY \(table) WHERE \(rule) GROUP BY \(keys) HAVING count(*) > 1
          ) AS many
          """
        ).single
        if extra != "0" {
          findings.append(
            Finding(
              "uniqueness", .failure, subject: database.subject("\(table) \(name)"),
              evidence: "\(extra ?? "?") rows too many for a unique index",
              advice: "remove the duplicates, then REINDEX"))
        }
      }
      guard findings.isEmpty else { return findings }
      return [
        Finding(
          "uniqueness", indexes.isEmpty ? .notice : .passed, subject: database.name,
          evidence: indexes.isEmpty ? "there are no unique indexes" : "\(indexes.count) unique indexes, no duplicates")
      ]
    }
  }
}
