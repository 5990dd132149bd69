import DRCore
import Logging

/// The looks at a target that has loaded: whether it holds what the backup has, in its memory and on its own disk.
struct RestoredTarget: Sendable {
  let server: RedisConnectionSettings
  /// How long writing to its disk may take.
  let loadLimit: Duration

  private func failed(_ what: String, _ advice: String, _ cause: (any Error)? = nil) -> DRError {
    DRError(
      .sourceFailed, "the target holds the restored data, but \(what)", advice: advice, object: "\(server)",
      cause: cause)
  }

  private func info(_ admin: RedisConnection) async throws -> RedisInfo {
    RedisInfo(try await admin.command("INFO", "everything").text ?? "")
  }

  /// Of what was just loaded, while the target is still a replica: it takes no client's writes, and lets no key expire by
  /// itself, so that the numbers have to be the same.
  func compareCounts(_ admin: RedisConnection, _ summary: RDBSummary) async throws {
    let state = try await info(admin)
    let found = state.keysByDatabase
    let expired = state.integer("rdb_last_load_keys_expired") ?? 0
    for database in Set(found.keys).union(summary.keysPerDatabase.keys).sorted() {
      let (there, wanted) = (found[database] ?? 0, Int64(summary.keysPerDatabase[database] ?? 0))
      guard there <= wanted, there >= wanted - expired else {
        throw failed(
          "database \(database) has \(there) keys, and the backup \(wanted)",
          "see its log, maxmemory and its policy, and whether something writes to it; then restore again")
      }
    }
  }

  /// Waits until the target's own persistence holds the new data, and looks whether it kept all of it.
  ///
  /// - Parameter before: What the target said before it was told to follow.
  /// - Returns: What it says in the end.
  func confirm(
    _ admin: RedisConnection, _ replay: RedisReplay?, before: RedisInfo, _ logger: Logger
  ) async throws -> RedisInfo {
    let deadline = ContinuousClock.now + loadLimit
    let state = try await info(admin)
    if let replay, let now = state.integer("unexpected_error_replies") {
      let errors = now - (before.integer("unexpected_error_replies") ?? 0)
      guard errors <= 0 else {
        throw failed(
          "\(errors) of \(replay.commands) commands of the change log failed in it",
          "see its log; restore to the snapshot alone, or to before the first of them")
      }
    }
    guard state["role"] == "master" else { throw failed("it is still a replica", "REPLICAOF NO ONE") }
    let isAppendOnly = before["aof_enabled"] == "1"
    if !isAppendOnly { try await save(admin, deadline) }
    let last = try await waitForDisk(admin, isAppendOnly, before: before, deadline)
    try judgeMemory(last, before: before)
    logger.info("the target holds the restored data, also on its disk")
    return last
  }

  /// Begins a BGSAVE. One that runs already began before everything was there: another follows it.
  private func save(_ admin: RedisConnection, _ deadline: ContinuousClock.Instant) async throws {
    while case .error(let error) = try await admin.send(["BGSAVE"]) {
      guard ["in progress", "child process"].contains(where: { error.message.contains($0) }) else {
        throw failed(
          "it does not save it: a crash would bring the old data back",
          error.kind == "NOPERM" ? "have it BGSAVE, and give this user +bgsave" : "see its log, then BGSAVE", error)
      }
      guard ContinuousClock.now < deadline else {
        throw failed("another child process kept it from saving for \(loadLimit)", "wait for it, then BGSAVE")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  private func waitForDisk(
    _ admin: RedisConnection, _ isAppendOnly: Bool, before: RedisInfo, _ deadline: ContinuousClock.Instant
  ) async throws -> RedisInfo {
    let statusName = isAppendOnly ? "aof_last_bgrewrite_status" : "rdb_last_bgsave_status"
    while true {
      let state = try await info(admin)
      let status = state[statusName]
      let runs = state[isAppendOnly ? "aof_rewrite_in_progress" : "rdb_bgsave_in_progress"] != "0"
      let isScheduled = isAppendOnly && state["aof_rewrite_scheduled"] != "0"
      // A server whose append-only file waits for its first rewrite schedules another one when that fails, for good.
      let hasTried =
        before[statusName] == "ok"
        || state.integer("aof_rewrites") ?? 0 > before.integer("aof_rewrites") ?? .max
      if !runs, !isScheduled || status != "ok" && hasTried {
        guard status == "ok" else {
          throw failed(
            "writing it to its disk failed (\(status ?? "unknown")): a crash would bring the old data back",
            "see its log and its disk, then \(isAppendOnly ? "BGREWRITEAOF" : "BGSAVE")")
        }
        return state
      }
      guard ContinuousClock.now < deadline else {
        throw failed("it was not written to its disk within \(loadLimit)", "wait for its child process")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// As a replica it took everything, whatever its `maxmemory`; as a master it evicts, or refuses writes. Keys with a time
  /// to live are the first to go, and no count misses them.
  private func judgeMemory(_ state: RedisInfo, before: RedisInfo) throws {
    let evicted = (state.integer("evicted_keys") ?? 0) - (before.integer("evicted_keys") ?? 0)
    guard evicted <= 0 else {
      throw failed(
        "it has evicted \(evicted) keys of it already: its maxmemory is too small",
        "raise maxmemory above what the data needs here, and restore again")
    }
    let limit = state.integer("maxmemory") ?? 0
    let used = (state.integer("used_memory") ?? 0) - (state.integer("mem_not_counted_for_evict") ?? 0)
    guard limit == 0 || used <= limit else {
      throw failed(
        "it needs \(used) bytes for it, and maxmemory is \(limit) with \(state["maxmemory_policy"] ?? "no policy"): "
          + "it will refuse writes, or evict keys", "raise maxmemory")
    }
  }
}
