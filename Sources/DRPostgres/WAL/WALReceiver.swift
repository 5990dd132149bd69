public import DRCore
public import Logging
public import ServiceLifecycle

/// Follows a server's WAL into an archive, continuously: the change source of PostgreSQL.
///
/// It streams over a physical replication slot, so that the server keeps what the archive does not have yet. Full
/// segments are stored at once; what there is of the last one is stored every few seconds, so that little is lost on a
/// quiet server too. The server is told that WAL is safe only once it is durable in the tier. Killed at any moment, it goes
/// on where the archive ends.
///
/// A lost connection is tried again for ever, and a tier that fails too. What needs a person is thrown: a gap
/// (`changeLogGap`), other content under the same name (`segmentConflict`), another cluster (`invalidConfiguration`), a
/// slot that another receiver holds when this one starts, and does not let go (`sourceFailed`).
///
/// An error that comes again and again is logged in full once, then shortly once a minute.
///
/// Needs a role with the REPLICATION attribute. With PostgreSQL 13 and 14 it also connects to the settings' database, to
/// ask for the slot.
public struct WALReceiver: ChangeSource, Service {
  public struct Options: Sendable {
    /// The replication slot, made if it is missing: lower-case letters, digits and underscores.
    public var slot: String
    /// How often what there is of the last segment is stored, if something new came: what a disaster can cost.
    public var partialInterval: Duration = .seconds(5)
    /// How long the server may say nothing at all, although asked, before the connection is taken for dead.
    public var silenceLimit: Duration = .seconds(60)
    /// The longest pause between two attempts to connect, or to store.
    public var longestPause: Duration = .seconds(30)
    /// How long storing the rest may take when the receiver is told to stop. A tier that fails by then has one more attempt
    /// of some seconds.
    public var shutdownLimit: Duration = .seconds(30)
    /// How long another receiver may hold the slot when this one starts. A server forgets a connection that died after its
    /// `wal_sender_timeout`, a minute unless set.
    public var slotPatience: Duration = .seconds(90)
    /// If WAL is lost for good, go on behind the gap. Without, the receiver stops and names the gap: the backups before it
    /// cannot be recovered beyond it, so that a new base backup is due.
    public var acceptsGap = false

    public init(slot: String) { self.slot = slot }
  }

  public let archive: WALArchive
  public let server: PostgresConnectionSettings
  public let options: Options
  private let logger: Logger
  private let onDurable: @Sendable (RecoveryPoint) async -> Void

  /// - Parameters:
  ///   - logger: Used by ``run()``.
  ///   - onDurable: Called by ``run()`` as by ``follow(logger:onDurable:)``.
  /// - Throws: ``DRError`` with `invalidConfiguration` for options that cannot work.
  public init(
    archive: WALArchive, server: PostgresConnectionSettings, options: Options, logger: Logger,
    onDurable: @escaping @Sendable (RecoveryPoint) async -> Void = { _ in }
  ) throws {
    let isName = options.slot.utf8.allSatisfy { byte in
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || byte == UInt8(ascii: "_")
    }
    guard isName, (1...63).contains(options.slot.utf8.count) else {
      throw DRError(
        .invalidConfiguration, "'\(options.slot.prefix(64))' cannot be the name of a replication slot",
        advice: "use 1 to 63 lower-case letters, digits and underscores")
    }
    guard options.partialInterval > .zero, options.silenceLimit > .zero, options.longestPause > .zero else {
      throw DRError(.invalidConfiguration, "the intervals of the WAL receiver must be longer than nothing")
    }
    self.archive = archive
    self.server = server
    self.options = options
    self.logger = logger
    self.onDurable = onDurable
  }

  public var component: Component { archive.component }

  /// Makes the slot, if it is missing, and lets it hold the server's WAL from now on. Call it before the first base
  /// backup: then nothing between the backup and the receiver's start is lost.
  ///
  /// - Returns: From where on the server keeps WAL.
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`; `invalidConfiguration` if the server is another cluster than the
  ///   archive's; `changeLogGap` if the slot has lost WAL.
  @discardableResult
  public func prepare(logger: Logger) async throws -> LSN {
    try await located {
      try await PostgresConnection.withConnection(server, replication: true, logger: logger) { connection in
        let identity = try await checked(ServerIdentity(connection))
        let slot = ReplicationSlot(name: options.slot, connection: connection, server: server, logger: logger)
        if let restart = try await slot.read(identity)?.restart { return restart }
        if try await slot.read(identity) == nil { try await slot.create() }
        guard let restart = try await slot.read(identity)?.restart else {
          throw DRError(
            .changeLogGap, "the replication slot \(options.slot) holds no WAL: the server has invalidated it",
            advice:
              "drop it with SELECT pg_drop_replication_slot('\(options.slot)'): the next start makes it anew, names the gap, and "
              + "goes on behind it with --accept-gap; take a new base backup then", object: options.slot)
        }
        return restart
      }
    }
  }

  /// Follows the WAL until the task is cancelled; then stores the rest and returns.
  public func follow(
    logger: Logger, onDurable: @escaping @Sendable (RecoveryPoint) async -> Void
  ) async throws {
    let journal = WALJournal(archive: archive, options: options, logger: logger, onDurable: onDurable)
    var pause = BackOff(longest: options.longestPause)
    var failures = RepeatedError()
    var holder = SlotHolder()
    while !Task.isCancelled {
      let streamed = journal.bytesReceived
      do {
        try await located { try await connect(journal, logger) }
        if !Task.isCancelled { logger.notice("the server has ended the WAL stream; connecting again") }
        (failures, holder) = (RepeatedError(), SlotHolder())
      } catch is CancellationError {
        return
      } catch let error as DRError where !needsPerson(error, hasStreamed: journal.bytesReceived > 0) {
        if Task.isCancelled {
          logger.warning(
            "stopped before all that was received is stored: nothing is lost while the server lives, which keeps it",
            metadata: ["error": "\(error)"])
          return
        }
        if journal.bytesReceived > streamed { failures = RepeatedError() }
        if error.sqlState == SlotHolder.state {
          let refusal = holder.refused(error, options.slot)
          if journal.bytesReceived == 0, holder.time > options.slotPatience { throw refusal }
          if holder.isWorthSaying { say(failures.next(refusal), refusal, logger) }
        } else {
          holder = SlotHolder()
          say(failures.next(error), error, logger)
        }
      }
      if journal.bytesReceived > streamed { pause.reset() }
      // Cancelled while it sleeps: the loop ends.
      try? await Task.sleep(for: pause.next())
    }
  }

  private func say(_ saying: RepeatedError.Saying, _ error: DRError, _ logger: Logger) {
    switch saying {
    case .full: logger.warning("WAL streaming stopped; trying again", metadata: ["error": "\(error)"])
    case .short(let since):
      logger.warning(
        "WAL streaming still does not work",
        metadata: ["since": "\(WALJournal.seconds(since))", "error": "\(error.code)"])
    case .nothing: break
    }
  }

  /// Follows the WAL until the service is shut down gracefully, or cancelled.
  public func run() async throws {
    try await cancelWhenGracefulShutdown { try await follow(logger: logger, onDurable: onDurable) }
  }

  private func connect(_ journal: WALJournal, _ logger: Logger) async throws {
    try await PostgresConnection.withConnection(server, replication: true, logger: logger) { connection in
      let identity = try await checked(ServerIdentity(connection))
      let session = WALSession(
        connection: connection, identity: identity, server: server, journal: journal, options: options, logger: logger)
      try await session.run()
    }
  }

  private func checked(_ identity: ServerIdentity) throws -> ServerIdentity {
    guard identity.systemIdentifier == archive.systemIdentifier else {
      throw archive.otherSystem(identity.systemIdentifier)
    }
    guard identity.segmentSize == archive.segmentSize else {
      throw DRError(
        .invalidConfiguration,
        "the server's WAL segments have \(identity.segmentSize), and the archive says \(archive.segmentSize)",
        advice: "make the archive with the server's size")
    }
    return identity
  }

  /// Whether trying again cannot help.
  private func needsPerson(_ error: DRError, hasStreamed: Bool) -> Bool {
    let final: [DRError.Code] = [
      .changeLogGap, .segmentConflict, .invalidConfiguration, .unsupportedVersion, .invalidKey,
    ]
    if final.contains(error.code) { return true }
    guard !hasStreamed, let state = error.sqlState else { return false }
    // What a server says for a while: starting or stopping, full, the slot still taken by a connection that died.
    return !(state.hasPrefix("57") || state.hasPrefix("08") || ["53300", "55006"].contains(state))
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
