import DRCore

public import struct Foundation.Date

extension PostgresProbe {
  /// Every table that was recorded is there.
  public static func tables(_ baseline: PostgresBaseline) -> PostgresProbe {
    PostgresProbe("tables") { database in
      guard let expected = baseline.columns[database.name] else { return notRecorded("tables", database) }
      let found = try await database.read { try await $0.columnsOfTables() }
      let missing = expected.keys.filter { found[$0] == nil }.sorted()
      return [
        Finding(
          "tables", missing.isEmpty ? .passed : .failure, subject: database.name,
          evidence: missing.isEmpty
            ? "\(expected.count) tables and views are there"
            : "\(missing.count) of \(expected.count) are missing: \(missing.prefix(5).joined(separator: ", "))",
          advice: missing.isEmpty ? nil : "see which moment was restored, and whether they were dropped before it")
      ]
    }
  }

  /// Every column of the tables that are there has the name and the type that it had, and none is more or less.
  public static func columnTypes(_ baseline: PostgresBaseline) -> PostgresProbe {
    PostgresProbe("column-types") { database in
      guard let expected = baseline.columns[database.name] else { return notRecorded("column-types", database) }
      let found = try await database.read { try await $0.columnsOfTables() }
      var findings: [Finding] = []
      for (table, columns) in expected.sorted(by: { $0.key < $1.key }) {
        guard let there = found[table], there != columns else { continue }
        let other = Set(columns).symmetricDifference(there).sorted().prefix(4).joined(separator: "; ")
        findings.append(
          Finding(
            "column-types", .failure, subject: database.subject(table),
            evidence: other.isEmpty
              ? "its columns are in another order" : "these are not the same on both sides: \(other)",
            advice: "see which moment was restored, and which migration ran around it"))
      }
      guard findings.isEmpty else { return findings }
      return [
        Finding(
          "column-types", .passed, subject: database.name,
          evidence: "the columns of \(expected.count) tables have the types that they had")
      ]
    }
  }

  /// The newest moment in each column that says when a row was changed is not older than when it was recorded, and not of the future.
  ///
  /// - Parameter restored: A moment up to which everything was restored. If the baseline is of later, nothing can be said.
  public static func timestamps(_ baseline: PostgresBaseline, restored: Date) -> PostgresProbe {
    PostgresProbe("timestamps") { database in
      func notChecked(_ why: String) -> [Finding] {
        [Finding("timestamps", .notChecked, subject: database.name, evidence: why)]
      }
      guard let expected = baseline.newest[database.name], !expected.isEmpty else {
        return notChecked("no column of time that was recorded has a name of change, as updated_at")
      }
      guard restored >= baseline.taken else {
        return notChecked(
          "the baseline is of \(Timestamp.format(baseline.taken)), and what was restored of \(Timestamp.format(restored))"
        )
      }
      return try await database.read { connection in
        let found = try await connection.newestMoments()
        var findings: [Finding] = []
        for (column, moment) in expected.sorted(by: { $0.key < $1.key }) {
          let now = found[column] ?? ""
          let order = try await connection.query(
            "SELECT nullif($1, '')::timestamptz >= $2::timestamptz, nullif($1, '')::timestamptz > now() + interval '1 hour'",
            [now, moment]
          ).first
          guard order?[0] != "t" || order?[1] != "f" else { continue }
          findings.append(
            Finding(
              "timestamps", .failure, subject: database.subject(column),
              evidence: "the newest is \(now.isEmpty ? "none" : now), and was \(moment)",
              advice: "see which moment was restored: the last changes are not in it"))
        }
        guard findings.isEmpty else { return findings }
        return [
          Finding(
            "timestamps", .passed, subject: database.name,
            evidence: "\(expected.count) columns, none older than when it was recorded")
        ]
      }
    }
  }

  /// Every query that was recorded runs (`queries`), and none takes longer than it may (`query-timings`).
  ///
  /// - Parameter slower: By how many percent of what it took then; 50 milliseconds more are always allowed.
  public static func queries(_ baseline: PostgresBaseline, slower: Double) -> PostgresProbe {
    PostgresProbe("queries") { database in
      var findings: [Finding] = []
      for query in baseline.queries where query.database == database.name {
        let subject = database.subject(query.name)
        let taken: Double
        do {
          taken = try await database.time(query.sql)
        } catch let error as DRError where error.code == .sourceFailed {
          findings.append(
            Finding(
              "queries", .failure, subject: subject, evidence: error.message,
              advice: "it worked when it was recorded: see what is missing"))
          continue
        }
        findings.append(Finding("queries", .passed, subject: subject, evidence: "it was run"))
        let allowed = query.milliseconds * (1 + slower / 100) + 50
        func text(_ value: Double) -> String { "\((value * 10).rounded() / 10) ms" }
        findings.append(
          Finding(
            "query-timings", taken <= allowed ? .passed : .failure, subject: subject,
            evidence: "\(text(taken)), \(text(query.milliseconds)) when it was recorded, \(text(allowed)) allowed",
            advice: taken <= allowed ? nil : "see its plan: statistics may be missing (ANALYZE), or an index"))
      }
      return findings
    }
  }

  private static func notRecorded(_ check: String, _ database: ProbedDatabase) -> [Finding] {
    [
      Finding(
        check, .notChecked, subject: database.name, evidence: "the baseline knows no database of this name",
        advice: "record one right before the backup")
    ]
  }
}
