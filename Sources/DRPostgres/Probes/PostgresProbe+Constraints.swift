import DRCore

extension PostgresProbe {
  /// Every row holds to the `CHECK` and `NOT NULL` constraints of its table, and to those of the domains that it uses;
  /// and each constraint has been validated.
  public static let constraints = PostgresProbe("constraints") { database in
    try await database.read { connection in
      var findings: [Finding] = []
      var looked = 0
      func broken(_ subject: String, _ evidence: String) {
        findings.append(Finding("constraints", .failure, subject: database.subject(subject), evidence: evidence))
      }

      // A partitioned table holds no rows itself, and each partition has its parent's constraints as its own.
      for check in try await connection.query(
        """
        SELECT c.conname, format('%I.%I', nspname, relname) AS table, pg_get_expr(conbin, conrelid) AS rule, convalidated
        FROM pg_constraint c JOIN pg_class t ON t.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
        WHERE contype = 'c' AND relkind = 'r' AND \(PostgresConnection.isUserSchema()) ORDER BY 2, 1
        """)
      {
        guard let table = check["table"], let rule = check["rule"] else { continue }
        let subject = "\(table) \(check["conname"] ?? "")"
        let count = try await connection.query("SELECT count(*) FROM ONLY \(table) WHERE (\(rule)) IS FALSE").single
        looked += 1
        if count != "0" { broken(subject, "\(count ?? "?") rows break the rule") }
        if check["convalidated"] != "t" {
          findings.append(
            Finding(
              "constraints", .warning, subject: database.subject(subject),
              evidence: "the server holds this constraint for not validated",
              advice: "ALTER TABLE … VALIDATE CONSTRAINT"))
        }
      }

      // Asked by a function, because the planner answers `IS NULL` from the constraint.
      for table in try await connection.query(
        """
        SELECT format('%I.%I', nspname, relname) AS table, string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS columns
        FROM pg_attribute a JOIN pg_class t ON t.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
        WHERE attnotnull AND attnum > 0 AND NOT attisdropped AND relkind = 'r' AND \(PostgresConnection.isUserSchema())
        GROUP BY 1 ORDER BY 1
        """)
      {
        guard let name = table["table"], let columns = table["columns"] else { continue }
        let count = try await connection.query(
          "SELECT count(*) FROM ONLY \(name) WHERE num_nulls(\(columns)) > 0"
        ).single
        looked += 1
        if count != "0" { broken(name, "\(count ?? "?") rows have NULL in a column that is NOT NULL") }
      }

      // Making each value anew has the server look at the domain's rules; it stops at the first that breaks one.
      for column in try await connection.query(
        """
        SELECT format('%I.%I', nspname, relname) AS table, quote_ident(attname) AS column,
          format_type(d.typbasetype, d.typtypmod) AS base, format_type(d.oid, NULL) AS domain
        FROM pg_attribute a JOIN pg_type d ON d.oid = atttypid JOIN pg_class t ON t.oid = attrelid
        JOIN pg_namespace n ON n.oid = relnamespace
        WHERE d.typtype = 'd' AND attnum > 0 AND NOT attisdropped AND relkind = 'r' AND \(PostgresConnection.isUserSchema())
        ORDER BY 1, 2
        """)
      {
        guard let table = column["table"], let name = column["column"], let base = column["base"],
          let domain = column["domain"]
        else { continue }
        do {
          try await connection.query("SELECT count(\(name)::\(base)::\(domain)) FROM ONLY \(table)")
          looked += 1
        } catch let error as DRError where ["23514", "23502"].contains(error.sqlState) {
          broken("\(table) \(name)", "at least one value breaks a rule of the domain \(domain)")
        }
      }

      if !findings.contains(where: { $0.severity > .notice }) {
        findings.append(
          Finding(
            "constraints", looked == 0 ? .notice : .passed, subject: database.name,
            evidence: looked == 0 ? "there are none" : "\(looked) rules looked at, every row holds to them"))
      }
      return findings
    }
  }
}
