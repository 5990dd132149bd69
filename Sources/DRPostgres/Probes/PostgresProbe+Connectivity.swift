import DRCore

extension PostgresProbe {
  /// The database takes a connection and answers.
  public static let connectivity = PostgresProbe("connectivity") { database in
    let row = try await database.read {
      try await $0.query("SELECT 6 * 7, current_setting('server_version'), pg_is_in_recovery()").first
    }
    guard row?[0] == "42" else {
      return [
        Finding("connectivity", .failure, subject: database.name, evidence: "a wrong answer to a simple question")
      ]
    }
    let recovering = row?[2] == "t"
    return [
      Finding(
        "connectivity", recovering ? .warning : .passed, subject: database.name,
        evidence: "version \(row?[1] ?? "unknown") answers"
          + (recovering ? ", but it is still in recovery and takes no writes" : ""),
        advice: recovering ? "wait for the end of recovery, or promote" : nil)
    ]
  }

  /// The answer to a question is the one that is known: a value that was planted on the source before the backup.
  ///
  /// No answer is ever part of a finding, nor is the server's message if it cannot answer, which may quote one.
  ///
  /// - Parameters:
  ///   - database: Where to ask; elsewhere the probe looks at nothing.
  ///   - sql: Gives one row with one column.
  public static func answer(_ name: String, in database: String, to sql: String, is expected: String) -> PostgresProbe {
    PostgresProbe(name) { probed in
      guard probed.name == database else { return [] }
      let rows: PostgresRows
      do {
        rows = try await probed.read { try await $0.query(sql) }
      } catch let error as DRError where error.sqlState != nil {
        throw DRError(.sourceFailed, "the server could not answer: SQLSTATE \(error.sqlState ?? "")")
      }
      let right = rows.count == 1 && rows.single == expected
      return [
        Finding(
          name, right ? .passed : .failure, subject: probed.name,
          evidence: right ? "the known answer" : "\(rows.count) rows, and not the known answer",
          advice: right ? nil : "this is not the data that was backed up, or not of the expected moment")
      ]
    }
  }
}
