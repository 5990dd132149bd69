import DRCore
import Logging

/// Has the clients of a server wait with their writes, for a time that has an end whatever becomes of this process.
///
/// `CLIENT PAUSE … WRITE`, from Redis 6.2 on, and `CLIENT UNPAUSE`.
final class WritePause: Sendable {
  /// How long writes go on waiting if nobody renews the pause, in milliseconds.
  private static let lapse = 10_000

  private let server: RedisConnectionSettings
  private let connection: RedisConnection
  private let logger: Logger
  private let renewing: MutableBox<Task<Void, Never>?>

  /// - Parameter limit: How long it is renewed.
  /// - Returns: Nil if the server or the user's rights do not allow it.
  static func begin(
    _ server: RedisConnectionSettings, limit: Duration, logger: Logger
  ) async throws -> WritePause? {
    let connection = try await RedisConnection.connect(server, logger: logger)
    do {
      guard try await connection.send(command).isOK else {
        await connection.close()
        return nil
      }
    } catch {
      await connection.close()
      throw error
    }
    return WritePause(server, connection, limit, logger)
  }

  private init(
    _ server: RedisConnectionSettings, _ connection: RedisConnection, _ limit: Duration, _ logger: Logger
  ) {
    (self.server, self.connection, self.logger) = (server, connection, logger)
    let deadline = ContinuousClock.now + limit
    renewing = MutableBox(
      Task {
        while true {
          do { try await Task.sleep(for: .seconds(2)) } catch { return }
          guard ContinuousClock.now < deadline else {
            return logger.notice(
              "the clients of the target were let write again after \(limit): it is looked whether they do")
          }
          guard (try? await connection.send(Self.command).isOK) == true else { return }
        }
      })
  }

  /// Lets the clients go on. May be called again.
  func end() async {
    let task = renewing.withLock { task in
      defer { task = nil }
      return task
    }
    guard let task else { return }
    task.cancel()
    await task.value
    await connection.close()
    // Not a child task: the restore may have been cancelled. If it does not succeed, the pause lapses.
    await Task.detached { [server, logger] in
      _ = try? await RedisConnection.withConnection(server, logger: logger) {
        try await $0.send(["CLIENT", "UNPAUSE"], limit: .seconds(5))
      }
    }.value
  }

  private static let command = ["CLIENT", "PAUSE", "\(lapse)", "WRITE"]
}
