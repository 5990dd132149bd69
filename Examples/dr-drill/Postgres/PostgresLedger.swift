import DRCore
import DRPostgres
import Foundation
import Logging

/// Connections that commit one ledger row after another, until they are told to stop or the server dies.
final class PostgresLedger: Sendable {
  let ledger = Ledger()
  private let gate = Gate()
  private let tasks: [Task<Void, any Error>]

  init(_ server: PostgresConnectionSettings, connections: Int, logger: Logger) {
    let ledger = ledger
    let gate = gate
    tasks = (0..<connections).map { writer in
      Task {
        let connection = try await PostgresConnection.connect(server, logger: logger)
        for sequence in 1... {
          try Task.checkCancellation()
          try await gate.pass {
            let row = try await connection.query(
              "INSERT INTO ledger (writer, sequence) VALUES (\(writer), \(sequence)) RETURNING xmin")
            guard let transaction = row.single else { return }
            let time = try await connection.query(
              "SELECT (extract(epoch FROM pg_xact_commit_timestamp('\(transaction)')) * 1000000)::bigint")
            guard let committed = time.single.flatMap({ Int64($0) }) else { return }
            ledger.add(LedgerEntry(writer: writer, sequence: sequence, committed: committed))
          }
        }
      }
    }
  }

  /// Runs the body while no commit is under way.
  func betweenCommits<Result: Sendable>(_ body: @Sendable () async throws -> Result) async rethrows -> Result {
    try await gate.whileClosed(body)
  }

  /// Waits until each writer has ended, as it does when its server dies.
  func stop() async {
    for task in tasks { task.cancel() }
    for task in tasks { _ = try? await task.value }
  }

  /// The rows that a server has.
  static func read(_ server: PostgresConnectionSettings, logger: Logger) async throws -> [LedgerEntry] {
    let rows = try await PostgresConnection.withConnection(server, logger: logger) { connection in
      try await connection.query(
        "SELECT writer, sequence, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM ledger")
    }
    return rows.compactMap { row in
      guard let writer = row[0].flatMap({ Int($0) }), let sequence = row[1].flatMap({ Int($0) }),
        let committed = row[2].flatMap({ Int64($0) })
      else { return nil }
      return LedgerEntry(writer: writer, sequence: sequence, committed: committed)
    }
  }
}
