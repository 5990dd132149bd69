import DRCore
import DRRedis
import Foundation
import Logging

/// Connections that write one transaction after another, each into every kind of key, until they are told to stop or the
/// server dies.
final class RedisLedger: Sendable {
  /// Without those that frame it.
  static let commandsInTransaction = 4

  let ledger = Ledger()
  private let gate = Gate()
  private let tasks: [Task<Void, any Error>]

  init(_ server: RedisConnectionSettings, connections: Int, logger: Logger) {
    let ledger = ledger
    let gate = gate
    tasks = (0..<connections).map { writer in
      Task {
        let connection = try await RedisConnection.connect(server, logger: logger)
        for sequence in 1... {
          try Task.checkCancellation()
          try await gate.pass {
            // Taken before the write is sent: Redis has no time of its own for a change.
            let time = Int64((Date().timeIntervalSince1970 * 1_000_000).rounded())
            for words in [
              ["MULTI"], ["XADD", "ledger:\(writer)", "*", "sequence", "\(sequence)", "time", "\(time)"],
              ["HSET", "state:\(writer)", "sequence", "\(sequence)"], ["SET", "last:\(writer)", "\(sequence)"],
              ["SET", "session:\(writer):\(sequence)", "\(time)", "EX", "86400"], ["EXEC"],
            ] { try await connection.command(words) }
            ledger.add(LedgerEntry(writer: writer, sequence: sequence, committed: time))
          }
        }
      }
    }
  }

  /// Runs the body while no transaction is under way.
  func betweenTransactions(_ body: @Sendable () async throws -> Void) async rethrows {
    try await gate.whileClosed(body)
  }

  /// Waits until each writer has ended, as it does when its server dies.
  func stop() async {
    for task in tasks { task.cancel() }
    for task in tasks { _ = try? await task.value }
  }

  /// What a server holds.
  struct Contents: Sendable {
    var entries: [LedgerEntry] = []
    /// Writers whose keys do not agree: a transaction was cut.
    var torn: [Int] = []
    /// Sessions with a time to live.
    var sessions = 0
  }

  static func read(
    _ server: RedisConnectionSettings, connections: Int, logger: Logger
  ) async throws -> Contents {
    try await RedisConnection.withConnection(server, logger: logger) { connection in
      var contents = Contents()
      for writer in 0..<connections {
        let entries = try await connection.command("XRANGE", "ledger:\(writer)", "-", "+").elements ?? []
        var last = 0
        for entry in entries {
          let fields = entry.elements?.last?.textPairs ?? [:]
          guard let sequence = fields["sequence"].flatMap({ Int($0) }), let time = fields["time"].flatMap({ Int64($0) })
          else { continue }
          contents.entries.append(LedgerEntry(writer: writer, sequence: sequence, committed: time))
          last = sequence
        }
        guard last > 0 else { continue }
        let state = try await connection.command("HGET", "state:\(writer)", "sequence").integer
        let string = try await connection.command("GET", "last:\(writer)").integer
        let left = try await connection.command("TTL", "session:\(writer):\(last)").integer ?? -2
        if state != Int64(last) || string != Int64(last) || left <= 0 { contents.torn.append(writer) }
        if left > 0 { contents.sessions += 1 }
      }
      return contents
    }
  }
}
