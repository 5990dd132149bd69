package import DRCore
import DRSandbox
import Logging

/// One check of a running database.
///
/// It gives a finding for what it looked at, also when all is well; when there was nothing to look at, that is a notice,
/// never a pass.
public struct PostgresProbe: Sendable {
  /// The stable name of the check, as in the findings.
  public let name: String
  let look: @Sendable (ProbedDatabase) async throws -> [Finding]

  package init(_ name: String, _ look: @escaping @Sendable (ProbedDatabase) async throws -> [Finding]) {
    self.name = name
    self.look = look
  }
}

/// The database that a probe looks at.
package struct ProbedDatabase: Sendable {
  package let name: String
  package let settings: PostgresConnectionSettings
  /// How long one look may be silent: the reading of the largest table, or one program.
  package let limit: Duration
  let logger: Logger

  /// Runs a look on a connection of its own, which changes nothing and trusts no index.
  ///
  /// - Throws: As the connection, or the body.
  package func read<Result>(
    isolation: isolated (any Actor)? = #isolation, _ body: (PostgresConnection) async throws -> Result
  ) async throws -> Result {
    var settings = settings
    settings.timeLimit = limit
    return try await PostgresConnection.withConnection(settings, logger: logger) { connection in
      // An index that lies must not answer for its table, and a constraint not for the rows that it may not hold for.
      // Rows that a policy would hide are an error.
      try await connection.query(
        """
        SET default_transaction_read_only = on; SET row_security = off; SET lock_timeout = '60s';
        SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;
        SET constraint_exclusion = off
        """)
      return try await body(connection)
    }
  }

  /// Runs a program of the server's version against the database.
  ///
  /// - Throws: ``DRError`` with `programFailed` if it is not installed or cannot be run, `timedOut`.
  func run(_ program: String, _ arguments: [String]) async throws -> ProgramResult {
    let version = try await read { try await $0.serverVersionNumber / 10_000 }
    let installation = try await PostgresInstallation.find(majorVersion: version)
    return try await runProgram(
      installation.path(program), arguments + [settings.conninfoForPrograms],
      environment: settings.password.map { ["PGPASSWORD": $0] } ?? [:], limit: limit)
  }

  /// A name of this database's for the subject of a finding.
  func subject(_ object: String? = nil) -> String { object.map { "\(name): \($0)" } ?? name }
}

extension PostgresConnectionSettings {
  /// A connection string for the argument list of a program: everything but secrets.
  package var conninfoForPrograms: String {
    let secrets: Set = ["password", "sslpassword", "client_encoding"]
    return parameters(replication: false).filter { !secrets.contains($0.keyword) }.map { keyword, value in
      let quoted = value.replacing("\\", with: "\\\\").replacing("'", with: "\\'")
      return "\(keyword)='\(quoted)'"
    }.joined(separator: " ")
  }
}

extension String {
  /// The last lines of what a program said, for the evidence of a finding.
  func lastLines(_ count: Int) -> String {
    split(separator: "\n").suffix(count).joined(separator: "\n")
  }
}
