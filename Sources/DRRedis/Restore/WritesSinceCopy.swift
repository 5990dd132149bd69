import DRCore
import Logging
import NIOCore

/// What clients wrote to a target after it was backed up: it would be lost with what is replaced, without being in that backup.
struct WritesSinceCopy: Sendable {
  /// A heartbeat of a master, in the stream: it is sent while somebody follows, as the backup does.
  private static let heartbeat: Int64 = 14

  let server: RedisConnectionSettings
  /// Where the backup stands.
  let copy: ReplicationPosition
  let logger: Logger

  /// Reads what the server's stream has behind the backup.
  ///
  /// - Parameter info: What the server says of itself now.
  /// - Throws: ``DRError``: `destinationInUse` if it was written to; `sourceFailed`, `timedOut`.
  func refuse(now info: RedisInfo) async throws {
    let end = info.integer("master_repl_offset") ?? .max
    guard info["master_replid"] != copy.history || end != copy.offset else { return }
    let writes = try await count(through: end)
    guard let writes, writes == 0 else {
      throw failure(writes.map { "\($0) commands were" } ?? "nobody knows what was")
    }
  }

  /// The last look, once the target takes no writes any more.
  ///
  /// - Parameters:
  ///   - told: What it said after it was told to follow.
  ///   - before: What it said when the stream was read.
  /// - Throws: ``DRError`` with `destinationInUse`.
  func refuse(told: RedisInfo, before: RedisInfo) throws {
    let more = (told.integer("master_repl_offset") ?? .max) - (before.integer("master_repl_offset") ?? 0)
    // No command that writes is as short.
    guard more != 0, more != Self.heartbeat else { return }
    throw failure("\(more) bytes of commands were")
  }

  private func failure(_ what: String) -> DRError {
    DRError(
      .destinationInUse,
      "\(what) written to the target after it was backed up, and would be lost: nothing was replaced",
      advice: "keep its clients away, or give this user +client|pause +client|unpause, with which they wait for up to "
        + "--pause-limit seconds; then run it again", object: "\(server)")
  }

  /// Commands that write. What is deleted does not count: keys expire by themselves, and are in the backup. Nil if the server
  /// does not say.
  private func count(through end: Int64) async throws -> Int? {
    let session = try await ReplicaSession.start(server, resuming: copy, logger: logger)
    do {
      let writes = try await count(session, through: end)
      await session.close()
      return writes
    } catch {
      await session.close()
      throw error
    }
  }

  private func count(_ session: ReplicaSession, through end: Int64) async throws -> Int? {
    guard case .continues = try await session.next(waiting: server.timeLimit) else { return nil }
    var (parser, offset, writes) = (RESPParser(), copy.offset, 0)
    while offset < end {
      guard case .stream(let bytes) = try await session.next(waiting: server.timeLimit) else { return nil }
      offset += Int64(bytes.readableBytes)
      parser.append(bytes)
      while let command = try parser.next() {
        let name = command.elements?.first?.text?.uppercased() ?? ""
        if !Self.harmless.contains(name) { writes += 1 }
      }
    }
    return writes
  }

  private static let harmless: Set<String> = [
    "PING", "REPLCONF", "SELECT", "MULTI", "EXEC", "PUBLISH", "SPUBLISH", "DEL", "UNLINK",
  ]
}
