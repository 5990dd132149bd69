import DRCore

extension PostgresProbe {
  /// Every row that refers to another finds it. The server enforces foreign keys when rows change, and never looks again.
  ///
  /// Asked as the server itself asks when a key is added (`RI_Initial_Check` in `ri_triggers.c`).
  public static let foreignKeys = PostgresProbe("foreign-keys") { database in
    try await database.read { connection in
      let version = try await connection.serverVersionNumber
      // Keys over periods and keys that are not enforced, both from 18 on, promise something else.
      let plain = version < 180_000 ? "true" : "conenforced AND NOT conperiod"
      let keys = try await connection.query(
        """
        SELECT c.conname, format('%I.%I', rn.nspname, r.relname) AS child, format('%I.%I', fn.nspname, f.relname) AS parent,
          r.relkind = 'p' AS child_partitioned, f.relkind = 'p' AS parent_partitioned, c.convalidated,
          (\(plain)) AS plain,
          (SELECT string_agg(format('p.%I OPERATOR(%I.%s) c.%I', pa.attname, opn.nspname, op.oprname, ca.attname), ' AND ')
            FROM unnest(c.conkey, c.confkey, c.conpfeqop) k (child, parent, operator)
            JOIN pg_attribute ca ON ca.attrelid = c.conrelid AND ca.attnum = k.child
            JOIN pg_attribute pa ON pa.attrelid = c.confrelid AND pa.attnum = k.parent
            JOIN pg_operator op ON op.oid = k.operator JOIN pg_namespace opn ON opn.oid = op.oprnamespace) AS match,
          (SELECT string_agg(format('c.%I IS NOT NULL', attname),
              CASE c.confmatchtype WHEN 'f' THEN ' OR ' ELSE ' AND ' END)
            FROM pg_attribute WHERE attrelid = c.conrelid AND attnum = ANY (c.conkey)) AS refers,
          (SELECT format('p.%I', attname) FROM pg_attribute WHERE attrelid = c.confrelid AND attnum = c.confkey[1]) AS found
        FROM pg_constraint c
        JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
        JOIN pg_class f ON f.oid = c.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
        WHERE c.contype = 'f' AND c.conparentid = 0 ORDER BY 2, 1
        """)
      var findings: [Finding] = []
      var checked = 0
      for key in keys {
        guard let child = key["child"], let parent = key["parent"], let match = key["match"],
          let refers = key["refers"], let found = key["found"]
        else { continue }
        let subject = database.subject("\(child) \(key["conname"] ?? "")")
        guard key["plain"] == "t" else {
          findings.append(
            Finding(
              "foreign-keys", .notice, subject: subject, evidence: "not enforced, or over a period: not looked at"))
          continue
        }
        let broken = try await connection.query(
          """
          SELECT count(*) FROM \(key["child_partitioned"] == "t" ? "" : "ONLY ")\(child) c
          LEFT JOIN \(key["parent_partitioned"] == "t" ? "" : "ONLY ")\(parent) p ON (\(match))
          WHERE \(found) IS NULL AND (\(refers))
          """
        ).single
        checked += 1
        if broken != "0" {
          findings.append(
            Finding(
              "foreign-keys", .failure, subject: subject,
              evidence: "\(broken ?? "?") rows refer to nothing in \(parent)"))
        }
        if key["convalidated"] != "t" {
          findings.append(
            Finding(
              "foreign-keys", .warning, subject: subject, evidence: "the server holds this key for not validated",
              advice: "ALTER TABLE … VALIDATE CONSTRAINT"))
        }
      }
      if !findings.contains(where: { $0.severity > .notice }) {
        findings.append(
          Finding(
            "foreign-keys", checked == 0 ? .notice : .passed, subject: database.name,
            evidence: checked == 0 ? "there are none" : "\(checked) keys looked at, no row refers to nothing"))
      }
      return findings
    }
  }
}
