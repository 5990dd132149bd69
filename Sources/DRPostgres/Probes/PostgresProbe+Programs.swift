import DRCore
import DRSandbox

extension PostgresProbe {
  /// Tables and indexes are whole, and every row is in every index that must have it: `pg_amcheck` with heapallindexed
  /// and parent-check.
  ///
  /// It needs the extension `amcheck`, which it installs into the database: for a sandbox, not for production.
  public static let amcheck = PostgresProbe("amcheck") { database in
    let result: ProgramResult
    do {
      result = try await database.run("pg_amcheck", ["--heapallindexed", "--parent-check", "--install-missing"])
    } catch let error as DRError where error.code == .programFailed {
      throw DRError(
        .programFailed, "pg_amcheck could not be run", advice: "it comes with the server from version 14 on",
        cause: error)
    }
    switch result.status {
    case 0:
      return [
        Finding("amcheck", .passed, subject: database.name, evidence: "pg_amcheck found every table and index whole")
      ]
    case 2:
      let lines = result.output.split(separator: "\n")
      return [
        Finding(
          "amcheck", .failure, subject: database.name,
          evidence: "pg_amcheck: \(lines.count) lines, the first: \(lines.prefix(8).joined(separator: "\n"))",
          advice: "REINDEX what is an index; for a table, restore from another backup")
      ]
    default:
      throw DRError(
        .programFailed, "pg_amcheck ended with status \(result.status): \((result.output + result.error).lastLines(8))")
    }
  }

  /// Everything can be read and written out again: a full `pg_dump`, to nowhere.
  public static let dump = PostgresProbe("dump") { database in
    let result = try await database.run("pg_dump", ["--file", "/dev/null", "--lock-wait-timeout=60s"])
    guard result.status == 0 else {
      return [
        Finding(
          "dump", .failure, subject: database.name,
          evidence: "pg_dump ended with status \(result.status): \(result.error.lastLines(8))",
          advice: "restore from another backup; what can still be read, save by table")
      ]
    }
    var findings = [
      Finding("dump", .passed, subject: database.name, evidence: "pg_dump read everything to its end")
    ]
    if !result.error.isEmpty {
      findings.append(
        Finding("dump", .notice, subject: database.name, evidence: "pg_dump remarks: \(result.error.lastLines(8))"))
    }
    return findings
  }
}
