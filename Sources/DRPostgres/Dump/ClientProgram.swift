import DRCore
import DRSandbox
import Foundation

/// One of PostgreSQL's client programs, of a version that fits a server.
package struct ClientProgram: Sendable {
  package let path: String
  package let majorVersion: Int

  /// Finds the one of the server's own version where that is installed, else the one in `PATH`.
  ///
  /// - Throws: ``DRError``: `programFailed` if there is none; `unsupportedVersion` if it is older than the server: it would
  ///   refuse, or leave out what it does not know.
  package static func find(_ name: String, server major: Int) async throws -> ClientProgram {
    var candidates: [String] = []
    for folder in [
      "/usr/lib/postgresql/\(major)/bin", "/usr/pgsql-\(major)/bin", "/opt/homebrew/opt/postgresql@\(major)/bin",
    ] {
      candidates.append("\(folder)/\(name)")
    }
    candidates += (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/\(name)" }
    var oldest: Int?
    for path in candidates where FileManager.default.isExecutableFile(atPath: path) {
      let said = try await runProgram(path, ["--version"], limit: .seconds(60))
      // `pg_dump (PostgreSQL) 15.18 (Debian …)`.
      guard let version = said.output.firstMatch(of: /\(PostgreSQL\) (\d+)/).flatMap({ Int($0.1) }) else { continue }
      if version >= major { return ClientProgram(path: path, majorVersion: version) }
      oldest = version
    }
    let advice = "apt-get install postgresql-client-\(major), or brew install postgresql@\(major)"
    guard let oldest else { throw DRError(.programFailed, "\(name) is not installed here", advice: advice) }
    throw DRError(
      .unsupportedVersion, "\(name) \(oldest) is older than the server, which is PostgreSQL \(major)", advice: advice)
  }

  /// What it is given of how to reach a server: passwords by environment, everything else as an argument.
  static func environment(_ settings: PostgresConnectionSettings) -> [String: String] {
    var environment = ["PGOPTIONS": ""]
    // The variables that steer a client are taken from it otherwise: those that name a password file are the operator's.
    for name in [
      "PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSSLMODE",
      "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSERVICE", "PGOPTIONS",
    ] {
      if let value = ProcessInfo.processInfo.environment[name] { environment[name] = value }
    }
    if let password = settings.password { environment["PGPASSWORD"] = password }
    return environment
  }
}
