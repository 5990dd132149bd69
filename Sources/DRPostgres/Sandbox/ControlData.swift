import DRCore
import DRSandbox

/// What `pg_controldata` says of a data folder: `name: value` lines, in English under `LC_ALL=C`.
struct ControlData {
  private let values: [Substring: Substring]

  init(_ text: String) {
    values = Dictionary(
      text.split(separator: "\n").compactMap { line in
        guard let colon = line.firstIndex(of: ":") else { return nil }
        return (line[..<colon], line[line.index(after: colon)...].drop { $0 == " " })
      }, uniquingKeysWith: { first, _ in first })
  }

  subscript(name: Substring) -> String? { values[name].map(String.init) }

  /// The settings that recovery must not find lower than they were on the source.
  ///
  /// Source: PostgreSQL, "Hot Standby", "Administrator's Overview".
  var minimums: [String: Int] {
    var minimums: [String: Int] = [:]
    for (setting, name) in [
      ("max_connections", "max_connections setting"), ("max_worker_processes", "max_worker_processes setting"),
      ("max_wal_senders", "max_wal_senders setting"), ("max_prepared_transactions", "max_prepared_xacts setting"),
      ("max_locks_per_transaction", "max_locks_per_xact setting"),
    ] {
      minimums[setting] = self[Substring(name)].flatMap { Int($0) }
    }
    return minimums
  }

  /// Reads a data folder's.
  ///
  /// - Throws: ``DRError`` with `programFailed` if `pg_controldata` cannot read it.
  static func read(_ dataFolder: String, with installation: PostgresInstallation) async throws -> ControlData {
    let result = try await runProgram(
      installation.path("pg_controldata"), ["-D", dataFolder], environment: ["LC_ALL": "C"], limit: .seconds(30))
    guard result.status == 0 else {
      throw DRError(
        .programFailed, "pg_controldata cannot read the data folder: \(result.error)",
        advice: "see whether this is a whole PostgreSQL data folder", object: dataFolder)
    }
    return ControlData(result.output)
  }
}
