import DRCore

extension PostgresProbe {
  /// Every table holds as many rows as it must.
  ///
  /// A table that is missing fails, and one that is empty and must not be, whatever the tolerance. Without an
  /// expectation there is nothing to compare with: it is not checked.
  ///
  /// - Parameter tolerance: By how many percent of what it must be a count may differ: 0 up to, not including, 100.
  public static func rowCounts(_ expected: PostgresRowCounts?, tolerance: Double = 0) -> PostgresProbe {
    PostgresProbe("row-counts") { database in
      guard (0..<100).contains(tolerance) else {
        throw DRError(.invalidConfiguration, "a tolerance of \(tolerance) percent proves nothing")
      }
      return try await database.read { connection in
        let tables = Set(try await connection.countableTables())
        guard let counts = expected?.databases[database.name], !counts.isEmpty else {
          return [
            Finding(
              "row-counts", .notChecked, subject: database.name,
              evidence: "\(tables.count) tables, and no counts to compare them with",
              advice: "count the rows of the source when it is backed up")
          ]
        }
        var findings: [Finding] = []
        var rows: Int64 = 0
        for (table, wanted) in counts.sorted(by: { $0.key < $1.key }) {
          guard tables.contains(table) else {
            findings.append(
              Finding(
                "row-counts", .failure, subject: database.subject(table),
                evidence: "the table is missing; it held \(wanted) rows"))
            continue
          }
          let count = try await connection.countRows(table)
          rows += count
          let difference = abs(Double(count) - Double(wanted))
          if difference > Double(wanted) * tolerance / 100 || (count == 0 && wanted > 0) {
            findings.append(
              Finding(
                "row-counts", .failure, subject: database.subject(table),
                evidence: "\(count) rows where \(wanted) were expected"))
          }
        }
        if findings.isEmpty {
          findings.append(
            Finding(
              "row-counts", .passed, subject: database.name,
              evidence: "\(counts.count) tables hold \(rows) rows, within \(tolerance) % of what was expected"))
        }
        let unknown = tables.subtracting(counts.keys)
        if !unknown.isEmpty {
          findings.append(
            Finding(
              "row-counts", .notice, subject: database.name,
              evidence:
                "\(unknown.count) tables were not expected: \(unknown.sorted().prefix(5).joined(separator: ", "))"))
        }
        return findings
      }
    }
  }
}
