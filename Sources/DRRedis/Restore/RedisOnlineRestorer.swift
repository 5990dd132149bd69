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
/// What a failure leaves, and a task that is cancelled: before the data set was sent whole, the target's old data; after that,
/// the new one, and the error says which step is missing. The target follows nobody in either case, unless it cannot be reached
/// or still loads; the error, or ``onInterruption``, says so. What a process that is killed leaves is a read-only replica of a
/// port at which nobody listens: the next restore knows it, and goes on if it may replace what the target holds.
///
/// Clients that write to a target whose data is replaced wait from the backup of it until it is a replica, if the user has
/// `+client|pause +client|unpause`, and are refused then; without those rights, or after ``pauseLimit``, a target that was
/// written to since that backup is refused. An empty target is refused if it holds keys when it has been told to follow.
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
  /// How long the target may give no sign of life while it is waited for.
  public var silenceLimit: Duration = .seconds(60)
  /// How long the clients' writes may wait while what the target holds is backed up.
  public var pauseLimit: Duration = .seconds(60)
  public var progress: ProgressHandler?
  /// Told of each step that is over.
  public var onStep: (@Sendable (Step) -> Void)?
  /// Told what the target is and holds, and what to do, when the task was cancelled after the target had been touched.
  public var onInterruption: (@Sendable (String) -> Void)?

  /// Told of the backup of what the target held, once it is there.
  public var onFormerData: (@Sendable (BackupManifest) -> Void)?

  /// What has been reached.
  public enum Step: String, Sendable, CaseIterable {
    /// The backup and the changes were read and are right, and the target can take them.
    case checked
    /// The target has loaded the data set and taken the changes, and answers as a master.
    case answers
    /// The target's own disk holds the restored data.
    case durable
  }

  /// What was restored.
  public struct Report: Sendable {
    public var outcome: RestoreOutcome
    /// Keys in the target at the end.
    public var keys: Int64
    /// Commands after the snapshot.
    public var commands: Int
    /// How far the data goes.
    public var reached: RecoveryPoint
  }

  public init(server: RedisConnectionSettings, archive: RedisLogArchive? = nil) {
    self.server = server
    self.archive = archive
  }

  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    try await restoreServer(from: reader, to: target, logger: logger).outcome
  }

  /// As ``restore(from:to:logger:)``, and says more.
  ///
  /// - Throws: ``DRError``: `destinationInUse`, `targetUnreachable`, `corruptData`, `malformedData`, `invalidConfiguration`,
  ///   `sourceFailed`, `timedOut`.
  public func restoreServer(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> Report {
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
  ) async throws -> Report {
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
    try await takeOver(logger)
    let preflight = try await RedisTargetPreflight.look(
      at: server, for: summary, usedMemory: manifest.properties["usedMemory"]?.integer,
      allowsReplicas: allowsReplicas, logger: logger)
    if let obstacle = preflight.obstacle { throw obstacle }
    try refuseData(preflight)
    if preflight.isAppendOnly { try await rehearse(logger) }
    let pause = try await pauseWrites(preflight, logger)
    let listener: RedisListener
    let former: BackupManifest?
    do {
      former = try await secure(preflight, manifest.component, logger)
      onStep?(.checked)
      listener = try await RedisListener.listen(host: address, port: port)
    } catch {
      await pause?.end()
      throw error
    }
    do {
      let artifact = try manifest.artifact("dump.rdb")
      let last = try await RedisConnection.withConnection(server, logger: logger) { admin in
        let load = Load(
          reader: reader, artifact: artifact, summary: summary, replay: replay,
          start: replay?.start ?? ReplicationPosition(manifest.recoveryPoint),
          former: former.flatMap { ReplicationPosition($0.recoveryPoint) },
          wasEmpty: preflight.keys == 0, pause: pause,
          // Asked again: the backup of the target has been its first replica, and that begins a new history.
          identity: try await info(admin),
          loadSetting: preflight.keys == 0 ? try await loadFromConnection(admin) : nil)
        try await serve(load, listener, admin, logger)
        if let former = load.loadSetting { try await admin.command("CONFIG", "SET", Self.loadSetting, former) }
        onStep?(.answers)
        return try await confirm(admin, load, logger)
      }
      onStep?(.durable)
      await listener.close()
      let outcome = RestoreOutcome(
        bytes: artifact.rawSize + (replay?.bytes ?? 0), items: summary.keys, duration: begin.duration(to: .now),
        movedAside: former.map { ["\($0.id) of \($0.component)"] } ?? [])
      return Report(
        outcome: outcome, keys: last.keysByDatabase.values.reduce(0, +), commands: replay?.commands ?? 0,
        reached: replay.map { $0.end.recoveryPoint(at: $0.moment) } ?? manifest.recoveryPoint)
    } catch {
      await pause?.end()
      await listener.close()
      throw error
    }
  }

  /// What the target is to load, and what it was before.
  private struct Load: Sendable {
    var reader: any BackupReader
    var artifact: BackupManifest.Artifact
    var summary: RDBSummary
    var replay: RedisReplay?
    /// The position of the data set, where it has one.
    var start: ReplicationPosition?
    /// The position of the backup of what is replaced.
    var former: ReplicationPosition?
    var wasEmpty: Bool
    var pause: WritePause?
    var identity: RedisInfo
    /// What `repl-diskless-load` was, if it was changed.
    var loadSetting: String?
    /// The target is told this one, and remembers it once it has loaded.
    var history = ServedReplica.newHistory()
  }

  static let loadSetting = "repl-diskless-load"

  private func info(_ admin: RedisConnection) async throws -> RedisInfo {
    RedisInfo(try await admin.command("INFO", "everything").text ?? "")
  }

  /// A target that a killed restore has left: goes on with it, or says what it is.
  private func takeOver(_ logger: Logger) async throws {
    guard
      let abandoned = try await AbandonedReplica.find(
        at: server, servedFrom: announcedAddress ?? address, logger: logger)
    else { return }
    if case .refuse = existingData { throw abandoned.refusal }
    try await abandoned.release(logger: logger)
  }

  private func refuseData(_ preflight: RedisTargetPreflight) throws {
    guard preflight.keys > 0, case .refuse = existingData else { return }
    throw DRError(
      .destinationInUse, "the target holds \(preflight.keys) keys: nothing was touched",
      advice: "restore into an empty server, or say that its data may be replaced (--replace)", object: "\(server)")
  }

  /// Only where it is backed up: what is to be lost need not wait.
  private func pauseWrites(_ preflight: RedisTargetPreflight, _ logger: Logger) async throws -> WritePause? {
    guard preflight.keys > 0, pauseLimit > .zero, case .replace = existingData else { return nil }
    return try await WritePause.begin(server, limit: pauseLimit, logger: logger)
  }

  /// Looks whether the target kept it, and has it on its disk.
  private func confirm(_ admin: RedisConnection, _ load: Load, _ logger: Logger) async throws -> RedisInfo {
    do {
      return try await RestoredTarget(server: server, loadLimit: loadLimit)
        .confirm(admin, load.replay, before: load.identity, logger)
    } catch {
      if Task.isCancelled {
        onInterruption?(
          "the target is a master and holds the restored data, but maybe not yet on its disk. What to do: have it "
            + "\(load.identity["aof_enabled"] == "1" ? "BGREWRITEAOF" : "BGSAVE"), for until then a crash would bring the old data back"
        )
      }
      throw error
    }
  }

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
    case .refuse, .discard: return nil
    case .replace(let repository, let encoding):
      do {
        let former = try await repository.backUp(
          RedisSnapshot(component: component, server: server), cadence: .hourly, encoding: encoding, logger: logger)
        logger.notice(
          "the target's former data was backed up",
          metadata: ["backup.id": "\(former.id)", "backup.component": "\(former.component)"])
        onFormerData?(former)
        return former
      } catch let error as DRError {
        throw DRError(
          error.code, "the backup of what the target holds failed: the target was not touched", component: component,
          object: error.object, cause: error)
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
    _ load: Load, _ listener: RedisListener, _ admin: RedisConnection, _ logger: Logger
  ) async throws {
    let writes = load.former.map { WritesSinceCopy(server: server, copy: $0, logger: logger) }
    try await writes?.refuse(now: load.identity)
    do {
      try await admin.command("REPLICAOF", announcedAddress ?? address, "\(listener.port)")
      // From here on it takes no writes.
      let told = try await info(admin)
      await load.pause?.end()
      try writes?.refuse(told: told, before: load.identity)
      let keys = told.keysByDatabase.values.reduce(0, +)
      guard !load.wasEmpty || keys == 0 else {
        throw DRError(
          .destinationInUse,
          "the target was empty, and \(keys) keys were written to it meanwhile: nothing was replaced",
          advice: "keep its clients away, then run it again", object: "\(server)")
      }
      let link = try await listener.accept(limit: server.timeLimit)
      do {
        try await send(load, over: link, admin, logger)
        await link.close()
      } catch {
        await link.close()
        throw error
      }
    } catch {
      // Whatever it holds now, it must not go on asking this host for more.
      let state = await TargetRelease(
        server: server, history: load.history, loadSetting: load.loadSetting, logger: logger
      ).run(limit: .seconds(60))
      throw judge(error, state, load)
    }
  }

  private func send(
    _ load: Load, over link: RedisLink, _ admin: RedisConnection, _ logger: Logger
  ) async throws {
    let meter = progress.map { ProgressMeter("dump.rdb", total: load.artifact.rawSize, handler: $0) }
    let watch = TargetWatch(server: server, silenceLimit: silenceLimit, meter: meter, logger: logger)
    let peer = ServedReplica(link, limit: min(server.timeLimit, silenceLimit))
    try await peer.run { peer in
      try await peer.handshake(expecting: load.identity)
      try await peer.send(header: load.artifact.rawSize, history: load.history, offset: load.start?.offset ?? 0)
      // The last piece goes only once the digest of them all was found right: without it, no load ends.
      var last: ByteBuffer?
      for try await frame in try await load.reader.read(load.artifact) {
        if let last { try await peer.send(payload: last) }
        last = frame
        meter?.add(frame.readableBytes)
      }
      if let last { try await peer.send(payload: last) }
      logger.info("the data set was sent; the target loads it")
      try await watch.during("load the data set", sign: { peer.heard }) {
        try await peer.waitUntilLoaded(limit: loadLimit)
      }
      try await RestoredTarget(server: server, loadLimit: loadLimit).compareCounts(admin, load.summary)
      if let replay = load.replay {
        for try await bytes in replay.stream { try await peer.send(stream: bytes) }
      }
      try await watch.during("take the change log", sign: { peer.acknowledged }) {
        try await peer.waitUntilTaken(limit: loadLimit)
      }
      meter?.finish()
      // Promoted while the connection still stands: a target that lost it would connect again.
      peer.expectEnd()
      try await admin.command("REPLICAOF", "NO", "ONE")
    }
  }

  /// What is thrown for a failure while the target followed: with what became of the target.
  private func judge(_ error: any Error, _ state: TargetRelease.State, _ load: Load) -> any Error {
    guard !Task.isCancelled, var failure = error as? DRError else {
      onInterruption?("\(state.words). What to do: \(state.advice)")
      return Task.isCancelled ? CancellationError() : error
    }
    if case .silent = state {
      return DRError(.sourceFailed, state.words, advice: state.advice, object: "\(server)", cause: error)
    }
    if failure.message == ServedReplica.ended, case .master(_, _, let now) = state {
      let found = BrokenLoad.cause(now: now, before: load.identity, size: load.artifact.rawSize)
      failure.message += ": \(found.cause)"
      failure.advice = found.advice
    }
    failure.message = "\(failure.message.withoutFullStop); \(state.words)"
    if case .replica = state { failure.advice = state.advice }
    return failure
  }
}
