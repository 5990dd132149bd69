import DRCore

extension PostgresProbe {
  /// No sequence is behind the column that it fills: the next insert would collide.
  ///
  /// Looked at are the columns that own a sequence, and those whose default asks one.
  public static let sequences = PostgresProbe("sequences") { database in
    try await database.read { connection in
      let uses = try await connection.query(
        """
        WITH uses AS (
          SELECT objid AS sequence, refobjid AS relation, refobjsubid AS attribute FROM pg_depend
          WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
          UNION
          SELECT refobjid, adrelid, adnum FROM pg_depend d JOIN pg_attrdef ad ON ad.oid = d.objid
          WHERE classid = 'pg_attrdef'::regclass AND refclassid = 'pg_class'::regclass
        )
        SELECT format('%I.%I', sn.nspname, s.relname) AS sequence, format('%I.%I', tn.nspname, t.relname) AS table,
          quote_ident(attname) AS column, seqincrement > 0 AS ascending, seqcycle, seqincrement, t.relkind = 'p' AS partitioned,
          EXISTS (SELECT FROM pg_index WHERE indrelid = t.oid AND indisunique AND attnum = ANY (indkey)) AS is_unique
        FROM uses JOIN pg_class s ON s.oid = sequence AND s.relkind = 'S' JOIN pg_sequence ON seqrelid = s.oid
        JOIN pg_namespace sn ON sn.oid = s.relnamespace
        JOIN pg_class t ON t.oid = relation AND t.relkind IN ('r', 'p') JOIN pg_namespace tn ON tn.oid = t.relnamespace
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = attribute
        WHERE atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype) ORDER BY 1, 2
        """)
      var findings: [Finding] = []
      var looked = 0
      for use in uses where use["seqcycle"] == "f" {
        guard let sequence = use["sequence"], let table = use["table"], let column = use["column"],
          let increment = use["seqincrement"]
        else { continue }
        let ascending = use["ascending"] == "t"
        let row = try await connection.query(
          """
          SELECT next, extreme, extreme \(ascending ? ">=" : "<=") next FROM
            (SELECT last_value::numeric + CASE WHEN is_called THEN \(increment) ELSE 0 END AS next FROM \(sequence)) s,
            (SELECT \(ascending ? "max" : "min")(\(column)) AS extreme
              FROM \(use["partitioned"] == "t" ? "" : "ONLY ")\(table)) t
          """
        ).first
        looked += 1
        guard row?[2] == "t" else { continue }
        let collides = use["is_unique"] == "t"
        findings.append(
          Finding(
            "sequences", collides ? .failure : .warning, subject: database.subject(sequence),
            evidence: "gives \(row?[0] ?? "?") next, and \(table) has \(column) \(row?[1] ?? "?") already"
              + (collides ? ": inserts will collide" : ""),
            advice: "set it past the column with setval"))
      }
      guard findings.isEmpty else { return findings }
      return [
        Finding(
          "sequences", looked == 0 ? .notice : .passed, subject: database.name,
          evidence: looked == 0 ? "none fills a column" : "\(looked) columns, each behind its sequence")
      ]
    }
  }
}
