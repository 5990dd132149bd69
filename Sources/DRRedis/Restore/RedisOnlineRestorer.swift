public import DRCore
public import DRStorage
import Foundation
public import Logging
import NIOCore

/// Restores into a running server, by replication: without a restart, without a file on its host.
///
/// It serves the backup as a master for one replica, once: the target is told to follow it, loads the data set, takes the
/// change log up to the target of the restore, and is made a master again. Before it touches the target, it has read the whole
/// backup and the change log and checked every byte; the end of the data set is sent only once what was sent before it is proven to be
/// the same; after, it waits until the target's own persistence holds the new data,
/// for until then a crash of the target would bring the old data back.
///
/// For standalone servers. The user on the target needs `+replicaof +info +ping +config|get +bgsave`; with `+config|set` an
/// empty target loads from the connection instead of a file that it writes first (`repl-diskless-load`, which is set back);
/// with `+bgrewriteaof` a target with an append-only file has to write it once before anything is touched, for one that
/// cannot ends itself after the load. The target connects to this process: ``address`` must be one that it can reach. The
/// data set crosses that connection without TLS.
///
/// The keys of each database are counted when the target has loaded, before any change and before any client can write; that
/// none was evicted, and that the target is not over its `maxmemory`, at the end. Keep clients away until it has returned.
///
/// What a failure leaves: before the data set was sent whole, the target's old data; after that, the new one, and the error
/// says which step is missing. The target follows nobody in either case, unless it cannot be reached.
///
/// Keys whose time has passed since the moment that is restored expire in the target at once. Servers before Redis 7 send
/// some times to live as seconds from now: those begin anew when their change log is restored.
public struct RedisOnlineRestorer: Restorer {
  /// What to do with what the target holds.
  public enum ExistingData: Sendable {
    /// Refuse a target that has any key.
    case refuse
    /// Replace it, after it was backed up into a repository. That backup is the component's newest one then: give a
    /// repository of its own where the component's own backups are.
    case replace(backUpInto: Repository, encoding: Encoding = Encoding())
    /// Replace it, and let it be lost.
    case discard
  }

  public var server: RedisConnectionSettings
  /// Where the changes after the snapshot are. Without, only the snapshot itself can be restored.
  public var archive: RedisLogArchive?
  public var existingData = ExistingData.refuse
  /// An address of this host that the target can reach, and the port; 0 is any.
  public var address = "127.0.0.1"
  public var port = 0
  /// The name or address by which the target reaches this host, if it is another.
  public var announcedAddress: String?
  /// Servers that follow the target may take the restored data too.
  public var allowsReplicas = false
  /// Look into every value of the data set too, which costs time. A server ends when it loads a broken one.
  public var checksValues = false
  /// How long loading may take, and writing the new data to the target's disk.
  public var loadLimit: Duration = .seconds(3600)
  public var progress: ProgressHandler?
  /// Told of each step that is over.
  public var onStep: (@Sendable (Step) -> Void)?

  /// What has been reached.
  public enum Step: String, Sendable, CaseIterable {
    /// The backup and the changes were read and are right, and the target can take them.
    case checked
    /// The target has loaded the data set and taken the changes, and answers as a master.
    case answers
    /// The target's own disk holds the restored data.
    case durable
  }

  public init(server: RedisConnectionSettings, archive: RedisLogArchive? = nil) {
    self.server = server
    self.archive = archive
  }

  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    let manifest = reader.manifest
    do {
      return try await run(reader, target, logger)
    } catch var error as DRError {
      error.component = error.component ?? manifest.component
      throw error
    }
  }

  /// Looks whether the target can take a backup, and touches nothing.
  ///
  /// - Throws: ``DRError``: `corruptData` and the like if the backup cannot be read; if the target cannot be asked.
  public func preflight(for reader: any BackupReader, logger: Logger) async throws -> [Finding] {
    let summary = try await check(reader)
    return try await RedisTargetPreflight.look(
      at: server, for: summary, usedMemory: reader.manifest.properties["usedMemory"]?.integer,
      allowsReplicas: allowsReplicas, logger: logger
    ).findings
  }

  // MARK: The way

  private func run(
    _ reader: any BackupReader, _ target: RecoveryTarget, _ logger: Logger
  ) async throws -> RestoreOutcome {
    let begin = ContinuousClock.now
    let manifest = reader.manifest
    guard manifest.component.kind == .redis else {
      throw DRError(.invalidConfiguration, "backup \(manifest.id) is no backup of Redis")
    }
    if let shards = manifest.shards {
      throw DRError(
        .invalidConfiguration, "backup \(manifest.id) is of a cluster of \(shards) shards",
        advice: "restore it by file, shard by shard, or key by key")
    }
    let replay = try await RedisReplay.find(manifest, to: target, in: archive)
    let summary = try await check(reader)
    let preflight = try await RedisTargetPreflight.look(
      at: server, for: summary, usedMemory: manifest.properties["usedMemory"]?.integer,
      allowsReplicas: allowsReplicas, logger: logger)
    if let obstacle = preflight.obstacle { throw obstacle }
    let former = try await secure(preflight, manifest.component, logger)
    if preflight.isAppendOnly { try await rehearse(logger) }
    onStep?(.checked)
    let start = replay?.start ?? ReplicationPosition(manifest.recoveryPoint)
    let listener = try await RedisListener.listen(host: address, port: port)
    do {
      let artifact = try manifest.artifact("dump.rdb")
      try await RedisConnection.withConnection(server, logger: logger) { admin in
        // Asked again: the backup of the target has been its first replica, and that begins a new history.
        let identity = RedisInfo(try await admin.command("INFO", "everything").text ?? "")
        let former = preflight.keys == 0 ? try await loadFromConnection(admin) : nil
        do {
          try await serve(
            listener, admin, reader, artifact, summary, from: start?.offset ?? 0, replay, identity: identity, logger)
        } catch {
          if let former { await setAgain(former, logger) }
          throw error
        }
        if let former { try await admin.command("CONFIG", "SET", Self.loadSetting, former) }
        onStep?(.answers)
        try await confirm(admin, replay, before: identity, logger)
      }
      onStep?(.durable)
      await listener.close()
      return RestoreOutcome(
        bytes: artifact.rawSize + (replay?.bytes ?? 0), items: summary.keys, duration: begin.duration(to: .now),
        movedAside: former.map { ["\($0.id) of \($0.component)"] } ?? [])
    } catch {
      await listener.close()
      throw error
    }
  }

  private static let loadSetting = "repl-diskless-load"

  /// Has an empty target read the data set from the connection into its memory: else it writes a file first, and then loads
  /// that. There is no old data that a broken connection could cost.
  ///
  /// - Returns: What the setting was, if it was changed. A user who may not set it is no obstacle.
  private func loadFromConnection(_ admin: RedisConnection) async throws -> String? {
    let answer = try await admin.send(["CONFIG", "GET", Self.loadSetting])
    guard answer.textPairs[Self.loadSetting] == "disabled",
      try await admin.send(["CONFIG", "SET", Self.loadSetting, "on-empty-db"]).isOK
    else { return nil }
    return "disabled"
  }

  /// On a connection of its own: the other one may be what failed.
  private func setAgain(_ former: String, _ logger: Logger) async {
    let server = server
    await Task.detached {
      _ = try? await RedisConnection.withConnection(server, logger: logger) {
        try await $0.command("CONFIG", "SET", RedisOnlineRestorer.loadSetting, former)
      }
    }.value
  }

  /// Reads the whole data set before anything is touched.
  private func check(_ reader: any BackupReader) async throws -> RDBSummary {
    let artifact = try reader.manifest.artifact("dump.rdb")
    let meter = progress.map { ProgressMeter("check dump.rdb", total: artifact.rawSize, handler: $0) }
    var scanner = RDBScanner(
      object: artifact.key.rawValue, options: RDBScanner.Options(largestKeys: 0, checksValues: checksValues))
    // Its SHA-256 is compared on the way to the target, before the end of it is sent.
    for try await frame in try await reader.readWithoutRawDigest(artifact) {
      try scanner.scan(frame)
      meter?.add(frame.readableBytes)
    }
    let summary = try scanner.finish()
    guard summary.checksum == .verified else {
      throw DRError(
        .corruptData, "the data set has no checksum: what is broken in it would end the target's process",
        advice: "restore it by file into a server that holds nothing yet", object: artifact.key.rawValue)
    }
    meter?.finish()
    return summary
  }

  /// - Returns: The backup of what is going to be replaced, if one was taken.
  private func secure(
    _ preflight: RedisTargetPreflight, _ component: Component, _ logger: Logger
  ) async throws -> BackupManifest? {
    guard preflight.keys > 0 else { return nil }
    switch existingData {
    case .refuse:
      throw DRError(
        .destinationInUse, "the target holds \(preflight.keys) keys: nothing was touched",
        advice: "restore into an empty server, or say that its data may be replaced", object: "\(server)")
    case .discard: return nil
    case .replace(let repository, let encoding):
      do {
        let former = try await repository.backUp(
          RedisSnapshot(component: component, server: server), cadence: .hourly, encoding: encoding, logger: logger)
        logger.notice(
          "the target's former data was backed up",
          metadata: ["backup.id": "\(former.id)", "backup.component": "\(former.component)"])
        return former
      } catch let error as DRError {
        throw DRError(
          error.code, "the backup of what the target holds failed: the target was not touched", advice: error.advice,
          component: component, object: error.object, cause: error)
      }
    }
  }

  /// Has the target write its append-only file once. After a load it has to, and ends itself if it cannot even begin.
  private func rehearse(_ logger: Logger) async throws {
    do {
      try await RedisMaintenance.rewriteAppendOnlyFile(server, limit: loadLimit, logger: logger)
    } catch let error as DRError where error.redisError?.kind == "NOPERM" {
      logger.info("whether the target can write its append-only file is not known: this user may not BGREWRITEAOF")
    } catch let error as DRError {
      throw DRError(
        error.code, "the target cannot write its append-only file: nothing was touched",
        advice: "see its log, its disk and who owns its data folder; BGREWRITEAOF has to succeed first",
        object: "\(server)", cause: error)
    }
  }

  /// Has the target load the data set and the changes, and makes it a master again.
  private func serve(
    _ listener: RedisListener, _ admin: RedisConnection, _ reader: any BackupReader,
    _ artifact: BackupManifest.Artifact, _ summary: RDBSummary, from offset: Int64, _ replay: RedisReplay?,
    identity: RedisInfo, _ logger: Logger
  ) async throws {
    try await admin.command("REPLICAOF", announcedAddress ?? address, "\(listener.port)")
    do {
      let link = try await listener.accept(limit: server.timeLimit)
      do {
        let peer = ServedReplica(link, limit: server.timeLimit)
        try await peer.run { peer in
          try await peer.handshake(expecting: identity)
          try await peer.send(header: artifact.rawSize, offset: offset)
          let meter = progress.map { ProgressMeter("dump.rdb", total: artifact.rawSize, handler: $0) }
          // The last piece goes only once the digest of them all was found right: without it, no load ends.
          var last: ByteBuffer?
          for try await frame in try await reader.read(artifact) {
            if let last { try await peer.send(payload: last) }
            last = frame
            meter?.add(frame.readableBytes)
          }
          if let last { try await peer.send(payload: last) }
          meter?.finish()
          logger.info("the data set was sent; the target loads it")
          try await peer.waitUntilLoaded(limit: loadLimit)
          try await compareCounts(admin, summary)
          if let replay {
            for try await bytes in replay.stream { try await peer.send(stream: bytes) }
          }
          try await peer.waitUntilTaken(limit: loadLimit)
          // Promoted while the connection still stands: a target that lost it would connect again.
          peer.expectEnd()
          try await admin.command("REPLICAOF", "NO", "ONE")
        }
        await link.close()
      } catch {
        await link.close()
        throw error
      }
    } catch {
      // Whatever it holds now, it must not go on asking this host for more.
      let server = server
      let isThere = await Task.detached {
        let answer = try? await RedisConnection.withConnection(server, logger: logger) {
          try await $0.send(["REPLICAOF", "NO", "ONE"])
        }
        return answer != nil
      }.value
      guard !isThere, error is DRError else { throw error }
      throw DRError(
        .sourceFailed, "the target does not answer any more: its process has ended, or cannot be reached",
        advice:
          "see its log: a disk that is full, or an append-only file that cannot be written, ends it after the load. "
          + "Repair that, start it, and restore again: until then it has what its own files hold",
        object: "\(server)", cause: error)
    }
  }

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
  private func compareCounts(_ admin: RedisConnection, _ summary: RDBSummary) async throws {
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
  private func confirm(
    _ admin: RedisConnection, _ replay: RedisReplay?, before: RedisInfo, _ logger: Logger
  ) async throws {
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
