public import DRCore
import DRStorage
import Foundation
public import Logging
public import ServiceLifecycle

/// Follows a server's replication stream into the change log, continuously: the change source of Redis.
///
/// The first time, and whenever the server cannot go on where the log ends (its backlog has been overwritten, or another
/// history was chosen in a failover), it takes a snapshot into the repository and follows the stream from there; the gap is
/// named. Otherwise it goes on where it was, also after a restart of the server or of itself, and after a failover.
///
/// Full segments are stored at once, and what there is of the last one every few hundred milliseconds. The server is told
/// that changes are safe only once they are durable in the tier (`WAIT` and `min-replicas-to-write` count on it). While the
/// tier is slow or away, changes wait in memory and in a file, up to a limit. Killed at any moment, it goes on where the log
/// ends.
///
/// A cluster has no change log: a node of one is refused, for its stream is that of one shard, and no position in it says
/// where the others were. ``RedisClusterSnapshot``, as often as needed, is the way there.
///
/// One receiver for each component of a repository: a second one waits for a while and is refused, by a lease of the repository.
/// One that was killed keeps its successor out until its lease has run out; one that was stopped for longer than that and finds
/// another in its place stores nothing more, and says so.
///
/// Needs a user with `+psync +replconf +ping`; see ``RedisSnapshot`` for more. `repl-backlog-size` (1 MB by default) decides
/// how long it may be away without a new snapshot.
public struct RedisChangeLog: ChangeSource, Service {
  /// What is worth knowing beside the recovery points.
  public enum Event: Sendable {
    /// Everything between is lost for a restore: a snapshot before the first cannot be brought beyond it.
    case gap(after: RecoveryPoint, until: RecoveryPoint)
    /// It took a snapshot.
    case snapshot(BackupManifest)
    /// The stream goes on where the log ended.
    case resumed(RecoveryPoint)
  }

  public let archive: RedisLogArchive
  public let server: RedisConnectionSettings
  public let sentinel: RedisSentinel?
  public let options: Options
  private let logger: Logger
  private let onDurable: @Sendable (RecoveryPoint) async -> Void
  private let onEvent: @Sendable (Event) async -> Void

  /// - Parameters:
  ///   - sentinel: Asked for the master before each connection, so that the log goes on there after a failover; of `server`
  ///     the address is not used then.
  ///   - logger: Used by ``run()``.
  ///   - onEvent: Called in order, beside the recovery points.
  ///   - onDurable: Called by ``run()`` as by ``follow(logger:onDurable:)``.
  /// - Throws: ``DRError`` with `invalidConfiguration` for options that cannot work.
  public init(
    archive: RedisLogArchive, server: RedisConnectionSettings, sentinel: RedisSentinel? = nil,
    options: Options = Options(), logger: Logger,
    onEvent: @escaping @Sendable (Event) async -> Void = { _ in },
    onDurable: @escaping @Sendable (RecoveryPoint) async -> Void = { _ in }
  ) throws {
    guard options.partialInterval > .zero, options.headInterval > .zero, options.silenceLimit > .zero,
      options.longestPause > .zero, options.leaseLife >= .seconds(1), options.leasePatience >= .zero,
      (64 << 10...256 << 20).contains(options.segmentSize), options.spoolMemory > 0, options.spoolLimit >= 0
    else {
      throw DRError(
        .invalidConfiguration, "these options of the Redis change log cannot work",
        advice: "intervals are longer than nothing, segments have 64 KiB to 256 MiB")
    }
    self.archive = archive
    self.server = server
    self.sentinel = sentinel
    self.options = options
    self.logger = logger
    self.onEvent = onEvent
    self.onDurable = onDurable
  }

  public var component: Component { archive.component }

  /// Follows the changes until the task is cancelled; then stores the rest and returns.
  ///
  /// - Throws: ``DRError``, also when it was cancelled and the rest could not be stored.
  public func follow(
    logger: Logger, onDurable: @escaping @Sendable (RecoveryPoint) async -> Void
  ) async throws {
    // With less patience, it would never outwait one that was killed.
    let patience = max(options.leasePatience, options.leaseLife * 1.5)
    let lease = ReceiverLease(
      archive, Lease.Settings(life: options.leaseLife, patience: patience), logger: logger)
    let journal = ChangeJournal(archive: archive, options: options, lease: lease, logger: logger, onDurable: onDurable)
    try await located {
      do {
        try await lease.hold { try await follow(journal, lease, logger) }
      } catch is CancellationError {
        // Told to stop, before it had begun.
      }
    }
  }

  private func follow(_ journal: ChangeJournal, _ lease: ReceiverLease, _ logger: Logger) async throws {
    do {
      // Storing goes on while there is no connection.
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await journal.store() }
        group.addTask { try await keepReceiving(journal, logger) }
        defer { group.cancelAll() }
        try await group.next()
      }
    } catch is CancellationError {
      // Told to stop.
    } catch {
      guard !lease.isTaken else { throw error }
      do {
        try await journal.storeRest(within: options.shutdownLimit)
      } catch let rest {
        logger.error("the last changes were not stored either", metadata: ["error": "\(rest)"])
      }
      throw error
    }
    try await journal.storeRest(within: options.shutdownLimit)
  }

  private func keepReceiving(_ journal: ChangeJournal, _ logger: Logger) async throws {
    var pause = BackOff(shortest: .milliseconds(100), longest: options.longestPause)
    var resuming: ReplicationPosition?
    var hasLooked = false
    var refused = RefusedPassword(server.password, patience: options.passwordPatience)
    var failures = RepeatedError()
    while true {
      let received = journal.received
      do {
        try await located {
          let server = try await sentinel?.master(server, logger: logger) ?? server
          if !hasLooked {
            try await ServerFacts.refuseClusterNode(
              server, advice: "a cluster has no change log: take dr-redis backup --cluster as often as needed",
              logger: logger)
            resuming = try await startingPoint(server, logger)
            hasLooked = true
          }
          try await connect(server, journal, resuming: journal.position ?? resuming, logger)
        }
      } catch let error as DRError {
        if journal.received > received {
          failures = RepeatedError()
          refused.reset()
        }
        guard !needsPerson(error) || hasLooked && refused.mayPass(error) else { throw error }
        switch failures.next(error) {
        case .full:
          logger.warning("the Redis change log is interrupted; trying again", metadata: ["error": "\(error)"])
        case .short(let since):
          logger.warning(
            "the Redis change log still does not go on",
            metadata: ["since": "\(since.components.seconds) s", "error": "\(error.code)"])
        case .nothing: break
        }
      }
      if journal.received > received { pause.reset() }
      try await Task.sleep(for: pause.next())
    }
  }

  /// Follows the changes until the service is shut down gracefully, or cancelled.
  public func run() async throws {
    try await cancelWhenGracefulShutdown { try await follow(logger: logger, onDurable: onDurable) }
  }

  /// Where to ask the server to go on: where the log ends, or at a snapshot.
  ///
  /// What else is in the repository may be of another server, or of one that this was before: the server says which of it
  /// it can continue.
  private func startingPoint(_ server: RedisConnectionSettings, _ logger: Logger) async throws -> ReplicationPosition? {
    let repository = Repository(tier: archive.tier, layout: archive.layout)
    let point = ChangeStartingPoint(
      lines: try await archive.lines(), backups: try await repository.catalog(of: component).backups)
    let answer = try await RedisConnection.withConnection(server, logger: logger) {
      try await $0.send(["INFO", "replication"])
    }
    let (start, gapAfter) = point.choose(RedisInfo.readable(answer))
    if let start, let gapAfter {
      // The server cannot go on where the log ends, but it can at a snapshot that was taken since.
      logger.error(
        "the Redis change log has a gap", metadata: ["redis.gap.after": "\(gapAfter)", "redis.gap.until": "\(start)"])
      await onEvent(.gap(after: gapAfter.recoveryPoint(at: Date()), until: start.recoveryPoint(at: Date())))
    }
    return start
  }

  private func connect(
    _ server: RedisConnectionSettings, _ journal: ChangeJournal, resuming: ReplicationPosition?, _ logger: Logger
  ) async throws {
    let session = try await ReplicaSession.start(
      server, resuming: resuming, isDated: true, spool: options.spool, logger: logger)
    do {
      try await run(session, server, journal, resuming: resuming, logger)
    } catch {
      await session.close()
      throw error
    }
  }

  private func run(
    _ session: ReplicaSession, _ server: RedisConnectionSettings, _ journal: ChangeJournal,
    resuming: ReplicationPosition?, _ logger: Logger
  ) async throws {
    switch try await session.next(waiting: server.timeLimit) {
    case .continues(let position):
      let line = try await journal.line(of: resuming ?? position)
      let former = try await formerHistory(resuming ?? position, position, server, logger)
      try await journal.resume(at: position, line: line, former: former)
      logger.info(
        "the Redis change log goes on",
        metadata: ["redis.history": "\(position.history)", "redis.offset": "\(position.offset)"])
      await onEvent(.resumed(position.recoveryPoint(at: Date())))
    case .fullResync(let position):
      let moment = Date()
      var gapAfter: ReplicationPosition?
      if let resuming {
        // What was received before the gap is stored first: it may be all that is left of it.
        let isNew = try journal.sealForGap(after: resuming)
        let last = journal.lastPoint ?? resuming.recoveryPoint(at: moment)
        gapAfter = ReplicationPosition(last)
        // Where the tier takes no snapshot, it is tried again and again.
        if isNew {
          logger.error(
            "the Redis change log has a gap",
            metadata: ["redis.gap.after": "\(resuming)", "redis.gap.until": "\(position)"])
          await onEvent(.gap(after: last, until: position.recoveryPoint(at: moment)))
        }
        guard options.takesSnapshots else {
          throw DRError(
            .changeLogGap, "the server cannot go on after \(resuming): it is at \(position)",
            advice: "take a new snapshot; raise repl-backlog-size so that the next interruption may be longer",
            component: component)
        }
      }
      let source = SynchronisedSnapshot(
        snapshot: RedisSnapshot(component: component, server: server), session: session, server: server,
        start: position, moment: moment, gapAfter: gapAfter)
      let manifest = try await Repository(tier: archive.tier, layout: archive.layout).backUp(
        source, cadence: options.cadence, encoding: archive.encoding, logger: logger)
      try journal.begin(at: position)
      await onEvent(.snapshot(manifest))
    case nil:
      throw DRError(
        .timedOut, "the server did not answer PSYNC within \(server.timeLimit)",
        advice: "see whether it is loading or saving")
    default: throw DRError(.malformedData, "something else where an answer to PSYNC belongs")
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await receive(session, journal) }
      if let sentinel {
        group.addTask { try await sentinel.watch(server, every: options.sentinelInterval, logger: logger) }
      }
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  /// Under which history the server was asked to go on, and through which offset its stream is still of that one: it may have
  /// been ahead of the log when it took over, and a snapshot may lie between. Nil where it is not known.
  private func formerHistory(
    _ asked: ReplicationPosition, _ answered: ReplicationPosition, _ server: RedisConnectionSettings, _ logger: Logger
  ) async throws -> ReplicationPosition? {
    guard asked.history != answered.history else { return nil }
    let answer = try await RedisConnection.withConnection(server, logger: logger) {
      try await $0.send(["INFO", "replication"])
    }
    guard let info = RedisInfo.readable(answer), info["master_replid"] == answered.history,
      info["master_replid2"] == asked.history, let second = info.integer("second_repl_offset"),
      second - 1 > answered.offset
    else { return nil }
    return ReplicationPosition(history: asked.history, offset: second - 1)
  }

  /// Takes the stream until the connection fails.
  private func receive(_ session: ReplicaSession, _ journal: ChangeJournal) async throws {
    journal.follow(session)
    defer { journal.follow(nil) }
    var lastWord = ContinuousClock.now
    while true {
      switch try await session.next(waiting: .milliseconds(500)) {
      case .stream(let bytes):
        lastWord = .now
        if try journal.append(bytes, session.arrival) { try await session.acknowledge(journal.durable?.offset ?? 0) }
      case nil:
        guard lastWord.duration(to: .now) < options.silenceLimit else {
          throw DRError(
            .timedOut, "the server has been silent for \(options.silenceLimit)",
            advice: "see repl-ping-replica-period, and the network")
        }
      default: throw DRError(.malformedData, "something else in the middle of the stream")
      }
    }
  }

  /// Whether trying again cannot help.
  private func needsPerson(_ error: DRError) -> Bool {
    let final: [DRError.Code] = [
      .changeLogGap, .segmentConflict, .invalidConfiguration, .unsupportedVersion, .invalidKey,
    ]
    if final.contains(error.code) { return true }
    return ["NOPERM", "WRONGPASS", "NOAUTH"].contains(error.redisError?.kind ?? "")
  }

  private func located<Result>(_ work: () async throws -> Result) async throws -> Result {
    do {
      return try await work()
    } catch var error as DRError {
      error.component = error.component ?? component
      throw error
    }
  }
}
