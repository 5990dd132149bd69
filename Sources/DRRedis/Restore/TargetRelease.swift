import DRCore
import Logging

/// After a restore into a running server that did not come to its end: makes the target a master again, puts back what was set
/// for the load, and says what it holds.
struct TargetRelease: Sendable {
  /// What became of the target.
  enum State: Sendable {
    /// It follows nobody.
    case master(keys: Int64, hasLoaded: Bool, RedisInfo)
    /// It answers, and stays a replica, for the reason that is named.
    case replica(String)
    /// It does not answer.
    case silent
  }

  let server: RedisConnectionSettings
  /// The ID of the history that was served: a target that has loaded it remembers it.
  let history: String
  /// What `repl-diskless-load` was, if it was changed.
  let loadSetting: String?
  let logger: Logger

  /// A target that loads takes no `REPLICAOF`: that is waited for, up to the limit. One that does not answer is asked three times.
  func run(limit: Duration) async -> State {
    // Not a child task: whoever calls may have been cancelled.
    await Task.detached { await self.ask(until: .now + limit) }.value
  }

  private func ask(until deadline: ContinuousClock.Instant) async -> State {
    var settings = server
    settings.connectTimeout = min(settings.connectTimeout, .seconds(4))
    settings.timeLimit = min(settings.timeLimit, .seconds(4))
    var unanswered = 0
    var hasSaid = false
    while true {
      do {
        if let state = try await RedisConnection.withConnection(settings, logger: logger, { try await promote($0) }) {
          return state
        }
        unanswered = 0
        if !hasSaid { logger.notice("the target is loading: waiting until it can be made a master again") }
        hasSaid = true
      } catch {
        unanswered += 1
        guard unanswered < 3 else { return .silent }
      }
      guard ContinuousClock.now < deadline else { return unanswered > 0 ? .silent : .replica("it is still loading") }
      try? await Task.sleep(for: .milliseconds(300))
    }
  }

  /// Nil while it loads.
  private func promote(_ connection: RedisConnection) async throws -> State? {
    if case .error(let error) = try await connection.send(["REPLICAOF", "NO", "ONE"]) {
      return error.kind == "LOADING" ? nil : .replica(error.message)
    }
    if let loadSetting {
      _ = try await connection.send(["CONFIG", "SET", RedisOnlineRestorer.loadSetting, loadSetting])
    }
    let info = RedisInfo(try await connection.send(["INFO", "everything"]).text ?? "")
    return .master(
      keys: info.keysByDatabase.values.reduce(0, +), hasLoaded: info["master_replid2"] == history, info)
  }
}

extension TargetRelease.State {
  /// What the target is and holds now, in a sentence without its full stop.
  var words: String {
    switch self {
    case .master(let keys, let hasLoaded, _):
      hasLoaded
        ? "the target is a master and holds the backup's data set, \(keys) keys now, with none or some of the changes behind it, "
          + "maybe not yet on its disk"
        : "the target is a master and holds what it held before, \(keys) keys"
    case .replica(let why):
      "the target is still a read-only replica of this restore, which is at its end: \(why.withoutFullStop)"
    case .silent:
      "the target does not answer any more: its process has ended, is stopped, or cannot be reached; it may hold its former "
        + "data or the backup's"
    }
  }

  var advice: String {
    switch self {
    case .master(_, let hasLoaded, _): hasLoaded ? "run the restore again, with --replace" : "run the restore again"
    case .replica:
      "once its INFO says loading:0, run the restore again with --replace; or make it a master with REPLICAOF NO ONE, to keep "
        + "what it holds"
    case .silent:
      "see its log: a disk that is full, or an append-only file that cannot be written, ends it after the load. Repair that, "
        + "start it, and restore again: until then it has what its own files hold. One that was only stopped may be a "
        + "read-only replica of nobody when it goes on: run the restore again with --replace, or REPLICAOF NO ONE"
    }
  }
}
