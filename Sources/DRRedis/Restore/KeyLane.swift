import DRCore
import Logging
import NIOCore

/// One connection on its way: batches of commands go out while the answers to earlier ones come in.
///
/// So many batches are under way at most: writing waits, and with it who reads the backup.
final class KeyLane: Sendable {
  /// Commands that are sent together.
  struct Batch: Sendable {
    var commands = ByteBuffer()
    /// The key of each command; nil for one that chooses the database.
    var keys: [ByteBuffer?] = []
    var bytes: Int64 = 0
  }

  /// What the server answered.
  struct Outcome: Sendable {
    var restored = 0
    var existing = 0
    var failed = 0
    var failures: [RedisKeyRestorer.Report.Failure] = []
  }

  let connection: RedisConnection
  private let underWay = BoundedChannel<[ByteBuffer?]>(capacity: 4)
  private let outcome = MutableBox(Outcome())
  private let answers: Task<Void, any Error>

  init(_ connection: RedisConnection) {
    self.connection = connection
    let (underWay, outcome) = (underWay, outcome)
    answers = Task {
      do {
        while let keys = try await underWay.receive() {
          let replies = try await connection.replies(keys.count)
          for (key, reply) in zip(keys, replies) {
            if case .simple("OK") = reply {
              if key != nil { outcome.withLock { $0.restored += 1 } }
            } else {
              try KeyLane.judge(reply, key, connection.settings, outcome)
            }
          }
        }
      } catch {
        underWay.close()
        throw error
      }
    }
  }

  /// Sends a batch.
  ///
  /// - Throws: ``DRError``: what the connection throws, or what made an earlier answer the end of it all.
  func send(_ batch: Batch) async throws {
    guard await underWay.send(batch.keys) else {
      try await answers.value
      throw DRError(.sourceFailed, "the connection to \(connection.settings) is closed")
    }
    do {
      try await connection.write(batch.commands)
    } catch {
      // What the server said before it closed says more.
      underWay.close()
      answers.cancel()
      throw error
    }
  }

  /// Waits for the answers to everything that was sent.
  func finish() async throws -> Outcome {
    underWay.finish()
    try await withTaskCancellationHandler {
      try await answers.value
    } onCancel: {
      answers.cancel()
    }
    return outcome.value
  }

  func stop() async {
    underWay.close()
    answers.cancel()
    _ = try? await answers.value
    await connection.close()
  }

  /// An answer that is not OK: of one key, or such that no further key could be restored either.
  private static func judge(
    _ reply: RESPValue, _ key: ByteBuffer?, _ server: RedisConnectionSettings, _ outcome: MutableBox<Outcome>
  ) throws {
    guard case .error(let error) = reply else {
      throw DRError(.malformedData, "the server at \(server) gave an answer that belongs to no RESTORE")
    }
    guard let key else {
      throw DRError(
        .invalidConfiguration, "the server at \(server) refused a database of the backup",
        advice: error.kind == "NOPERM"
          ? "give this user +select, or choose keys of one database (--database, --move-database)"
          : "raise its 'databases', or move the keys to another database (--move-database)", cause: error)
    }
    switch error.kind {
    case "BUSYKEY":
      outcome.withLock { $0.existing += 1 }
    case "MOVED", "ASK", "TRYAGAIN":
      throw DRError(
        .sourceFailed, "slots of the cluster are elsewhere than CLUSTER NODES said, or this user may not ask it",
        advice: "give this user +cluster|nodes; run it again when no slots move, which restores what is missing",
        cause: error)
    case "OOM":
      throw DRError(
        .noSpace, "the server at \(server) has no memory for more", advice: "raise its maxmemory", cause: error)
    case "READONLY", "NOPERM", "NOAUTH", "LOADING", "MISCONF", "CLUSTERDOWN", "MASTERDOWN", "BUSY":
      throw DRError(
        .sourceFailed, "the server at \(server) takes no keys",
        advice: error.kind == "NOPERM"
          ? "give this user +restore, the keys (~pattern), and for other databases than 0 +select"
          : server.advice(for: error), cause: error)
    default:
      outcome.withLock {
        $0.failed += 1
        if $0.failures.count < RedisKeyRestorer.Report.mostFailures {
          $0.failures.append(
            RedisKeyRestorer.Report.Failure(key: key.withUnsafeReadableBytes { RDBString.shown($0) }, why: "\(error)"))
        }
      }
    }
  }
}
