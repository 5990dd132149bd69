public import DRCore
import Foundation
public import Logging
import NIOCore

/// Publishes the messages of a backup into their queues again, in their order, each confirmed by the broker.
///
/// What was published to the queue by its name, through the default exchange, goes that way again. All other messages go
/// through a fanout exchange that is bound to the one queue for the time of the restore: so each keeps its routing key,
/// reaches no other queue, and `CC` headers route nothing. (The exchange that such a message was first published to cannot
/// be said again; it stays in the archive.) A message that the broker refuses or gives back ends the restore of its queue with its
/// number; the others are restored, and then the restore fails. It also fails if a queue holds less than what it has confirmed and
/// nothing explains it: neither consumers nor a time to live. The queues must be there: restore the definitions first.
///
/// To a moment: with a ``tap`` the messages of the backup are followed by those that the tap captured since, up to the
/// moment. What counts is when a message came to the tap, by the clock of the host that taps, to the millisecond; never what
/// the application says of it (its timestamp). Of a message that may have waited, for the tap was not running or was storing,
/// the moment is known by its bounds: it is restored if it may have come in time, and counted. All of a dump came before the
/// dump ended. Around the dump the two are compared (``TapSeam``): a message may rather come twice than not at all, and the
/// outcome says how many may.
public struct RabbitMQMessageRestorer: Restorer {
  /// What becomes of a message's own time to live (its `expiration`).
  public enum TimeToLive: String, Sendable, Hashable, CaseIterable {
    /// What was left of it by the message's timestamp; where it has none, the whole of it. What is over expires at once.
    case remaining
    /// The whole of it, from the restore on.
    case fresh
    /// It never expires.
    case none
  }

  public var broker: RabbitMQSettings
  public var queues: RabbitMQQueueSelection
  public var timeToLive = TimeToLive.fresh
  public var overrides: Set<RestoreRefusal> = []
  /// Unconfirmed messages at most; also how many a killed restore may repeat. When it is full, half of it is waited for: 1,000 are
  /// still on their way then, which keeps a broker busy.
  public var window = 2000
  /// The folder for one journal per queue, by which a killed restore goes on; nil: none, and it begins anew. They are there until all
  /// queues are restored: one that goes on passes over those that are finished.
  public var journalFolder: String?
  /// Of messages of one queue that have the same message-id restore only the first. Of earlier restores nothing is known, but of one
  /// that was killed and is gone on with.
  public var leavesOutDuplicates = false
  /// Other names for queues, by vhost and name: `//orders` to `orders-restored`.
  public var renames: [String: String] = [:]
  /// Read every archive to its end before anything is published: its digests tell at their end. Costs a second reading of what is
  /// stored.
  public var readsFirst = true
  /// What was captured since the backup, to go on with after it.
  public var tap: RabbitMQTapLog?
  /// What a message may take through the broker to the tap, and how much the clocks of the hosts that tap and back up may differ.
  public var seamMargin = Duration.seconds(2)
  public var progress: ProgressHandler?
  /// The check of a finding that says how far a tap goes: a failure where that is not to the target.
  public static let reachCheck = "tap-reach"
  /// The check of a finding that says that a queue holds less than what it has confirmed: a failure where nothing explains it.
  public static let depthCheck = "restored-depth"
  public var onQueue: (@Sendable (QueueOutcome) -> Void)?
  /// Called with a queue (its vhost and name) that could not be restored, while the restore goes on with the others.
  public var onFailure: (@Sendable (String, DRError) -> Void)?

  public init(
    broker: RabbitMQSettings, queues: RabbitMQQueueSelection = RabbitMQQueueSelection(includesTransient: true)
  ) {
    self.broker = broker
    self.queues = queues
  }

  /// - Throws: ``DRError``: `destinationInUse` and others before anything is published; `sourceFailed` when queues are not restored as
  ///   they should be, after all others are; what the reader or the broker says.
  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    if case .immediate = target, tap != nil {
      var alone = self
      alone.tap = nil
      return try await alone.restore(from: reader, to: .latest, logger: logger)
    }
    return try await locatingErrors(of: reader.manifest.component) {
      let start = ContinuousClock.now
      let records = RabbitMQQueueRecord.all(of: reader.manifest).filter {
        queues.contains(vhost: $0.vhost, name: $0.name, type: $0.type, durable: $0.durable)
      }
      guard reader.manifest.component.kind == .rabbitmq, reader.manifest.properties["queues"] != nil else {
        throw DRError(.invalidConfiguration, "backup \(reader.manifest.id) holds no messages of queues")
      }
      try await refuseUnknown(reader)
      let limit = try limit(target, reader.manifest)
      // Everything is looked at before anything is published.
      var destinations: [Destination] = []
      let chain = try await reader.chain()
      let policies = try await QueuePolicies.read(ManagementAPI(broker))
      for record in records { destinations.append(try await prepare(record, chain, policies, limit, logger)) }
      let (bytes, items) = try await restoreEach(destinations, limit, logger)
      for destination in destinations { destination.journal?.remove() }
      return RestoreOutcome(bytes: bytes, items: items, duration: start.duration(to: .now))
    }
  }

  // MARK: Before

  /// Milliseconds since 1970; nil: no limit.
  private func limit(_ target: RecoveryTarget, _ manifest: BackupManifest) throws -> Int64? {
    switch target {
    case .latest, .immediate: return nil
    case .time(let date):
      guard date >= manifest.recoveryPoint.time else {
        throw DRError(
          .targetUnreachable,
          "backup \(manifest.id) was taken from \(Timestamp.format(manifest.recoveryPoint.time)) on, after the target",
          advice: "choose an older backup: which of its messages were there before it nothing tells",
          component: manifest.component)
      }
      return date.milliseconds
    case .position, .name:
      throw DRError(
        .invalidConfiguration, "messages are restored to the latest or to a time", component: manifest.component)
    }
  }

  /// A name that is nowhere is a mistake, not a restore of nothing.
  ///
  /// A restore begins with it; call it before anything else is done for one, as a restore of definitions.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for a name or a pattern that matches no queue of the backup, and for a vhost that
  ///   it does not hold; what the reader says.
  public func refuseUnknown(_ reader: any BackupReader) async throws {
    let manifest = reader.manifest
    let records = RabbitMQQueueRecord.all(of: manifest)
    let unknown = queues.unmatched(by: records.map { ($0.vhost, $0.name, $0.type, $0.durable) })
    if let first = unknown.first {
      throw DRError(
        .invalidConfiguration, "backup \(manifest.id) holds no queue '\(first.prefix(100))'",
        advice: "list --queues shows those that it holds", component: manifest.component)
    }
    var known = Set(records.map(\.vhost.exact))
    func isUnknown(_ vhost: String) -> Bool { !known.contains(vhost.exact) }
    guard let vhosts = queues.vhosts, vhosts.contains(where: isUnknown) else { return }
    // One without queues is in the definitions.
    if manifest.artifacts.contains(where: { $0.name == "definitions.json" }) {
      known.formUnion(try await RabbitMQDefinitions.read(from: reader)[.vhosts].compactMap { $0.vhost?.exact })
    }
    if let first = vhosts.first(where: isUnknown) { throw Self.unknownVHost(first, in: manifest) }
  }

  static func unknownVHost(_ vhost: String, in manifest: BackupManifest) -> DRError {
    DRError(
      .invalidConfiguration, "backup \(manifest.id) holds no vhost '\(vhost.prefix(100))'",
      advice: "list --queues shows those of its queues", component: manifest.component)
  }

  // MARK: One queue

  func restore(
    _ destination: Destination, _ limit: Int64?, _ meter: ProgressMeter?, _ logger: Logger
  ) async throws -> QueueOutcome {
    let queue = destination.queue
    guard !destination.isFinished else {
      var outcome = QueueOutcome(
        vhost: queue.vhost, queue: queue.name, published: 0, resumedFrom: Int64(clamping: destination.first),
        mayBeRepeated: 0, fromTap: 0, afterTarget: 0, duplicates: 0, usersLeftOut: 0)
      outcome.wasFinished = true
      return outcome
    }
    try destination.journal?.begin()
    let exchange = destination.mark.name
    let (connection, isDefaultExchangeAllowed) = try await connect(destination, logger)
    var window = PublishWindow(limit: self.window, from: destination.first)
    var counts = Counts()
    do {
      // Gone with its only binding at the latest; the name is the same for a restore that goes on.
      try await connection.declareExchange(exchange, type: "fanout", durable: false, autoDelete: true)
      try await connection.bind(queue: queue.name, to: exchange)
      var republishing = republishing(through: exchange)
      if isDefaultExchangeAllowed { republishing.queue = ByteBuffer(string: queue.name) }
      try await publish(destination, limit, republishing, connection, &window, &counts, meter)
      try await connection.deleteExchange(exchange)
      await connection.close()
    } catch {
      await connection.abort()
      await removeExchange(exchange, queue.vhost, logger)
      throw error
    }
    let depth = queue.kind == .stream ? nil : try await depthAfter(destination, window.published, counts, logger)
    // What is not there is not finished: one that goes on sees that.
    if depth?.finding?.severity != .failure { try destination.journal?.finish() }
    return QueueOutcome(
      vhost: queue.vhost, queue: queue.name, published: Int64(window.published),
      resumedFrom: Int64(clamping: destination.first), mayBeRepeated: Int64(clamping: destination.mayBeRepeated),
      fromTap: counts.fromTap, afterTarget: counts.afterTarget, duplicates: counts.duplicates,
      usersLeftOut: Int64(window.usersLeftOut), depth: depth?.ready, mayBeInDump: counts.mayBeInDump,
      aroundDump: counts.aroundDump, mayBeAfterTarget: counts.mayBeAfterTarget,
      findings: destination.findings + [depth?.finding].compactMap { $0 })
  }

  /// What a restore publishes of a queue.
  struct Counts {
    /// All that have a number, with those that a killed restore had brought, and the bytes of their bodies.
    var messages: Int64 = 0
    var bytes: Int64 = 0
    /// Of these, those that have a time to live of their own.
    var expiring: Int64 = 0
    var fromTap: Int64 = 0
    var afterTarget: Int64 = 0
    var duplicates: Int64 = 0
    var mayBeInDump: Int64 = 0
    var aroundDump: Int64 = 0
    var mayBeAfterTarget: Int64 = 0
  }

  /// Connects, with confirms on, and says whether the user may publish to the default exchange.
  ///
  /// Where there is a journal, the connection is marked, or the journal says that it is not: one that goes on must know when
  /// this connection is gone.
  private func connect(_ destination: Destination, _ logger: Logger) async throws -> (AMQPConnection, Bool) {
    let mark = destination.mark
    var connection = try await mark.connect()
    let isDefaultExchangeAllowed = try await connection.mayPublishToDefaultExchange()
    if !isDefaultExchangeAllowed { connection = try await mark.connect() }
    if let journal = destination.journal, let refusal = try await mark.put(on: connection) {
      logger.warning(
        "the connection of a restore could not be marked: if it is killed, what is there twice cannot be known exactly",
        metadata: [
          "rabbitmq.queue": "\(destination.queue.title)", "rabbitmq.mark": "\(mark.name)", "error": "\(refusal)",
        ])
      try journal.noteUnmarked()
      connection = try await mark.connect()
    }
    return (connection, isDefaultExchangeAllowed)
  }

  private func republishing(through exchange: String) -> Republishing {
    var republishing = Republishing(exchange: exchange)
    republishing.user = broker.user
    republishing.now = UInt64(max(0, Date().timeIntervalSince1970))
    republishing.timeToLive =
      switch timeToLive {
      case .remaining: .remaining
      case .fresh: .fresh
      case .none: .none
      }
    return republishing
  }

  private func publish(
    _ destination: Destination, _ limit: Int64?, _ republishing: Republishing, _ connection: AMQPConnection,
    _ window: inout PublishWindow, _ counts: inout Counts, _ meter: ProgressMeter?
  ) async throws {
    let journal = destination.journal
    let note: @Sendable (UInt64) throws -> Void = { try journal?.note($0) }
    var batch: [ArchivedMessage] = []
    var batchBytes = 0
    var current = window
    func send() async throws {
      guard !batch.isEmpty else { return }
      try await connection.publish(batch, as: republishing, window: &current, onProgress: note)
      batch.removeAll(keepingCapacity: true)
      meter?.add(batchBytes)
      batchBytes = 0
      if !current.failures.isEmpty {
        try await connection.settle(&current, onProgress: note)
        throw failed(current, destination)
      }
    }
    counts = try await read(destination, limit) { message in
      if destination.queue.kind == .stream { try refuseForStream(message, destination) }
      batch.append(message)
      batchBytes += message.body.readableBytes
      if batchBytes >= 1 << 20 || batch.count >= 2000 { try await send() }
    }
    try await send()
    try await connection.settle(&current, onProgress: note)
    window = current
    guard current.failures.isEmpty else { throw failed(current, destination) }
  }

  /// Hands on what is to be published of a queue, in its order and with its number.
  ///
  /// What is left out of a restore has no number: so a journal's numbers and the depth of the queue count the same.
  func read(
    _ destination: Destination, _ limit: Int64?, _ body: (ArchivedMessage) async throws -> Void
  ) async throws -> Counts {
    // Where duplicates are left out.
    var seen: Set<[UInt8]> = []
    var next: UInt64 = 0
    var found = Counts()
    func offer(_ message: ArchivedMessage, fromTap: Bool) async throws -> Bool {
      // A copy: the message's bytes keep the memory of all that they were read with.
      if leavesOutDuplicates, let id = try message.rawProperties().texts[.messageID],
        !seen.insert(Array(id.readableBytesView)).inserted
      {
        found.duplicates += 1
        return false
      }
      var message = message
      defer { next += 1 }
      found.messages += 1
      found.bytes += Int64(message.body.readableBytes)
      if message.expires { found.expiring += 1 }
      guard next >= destination.first else { return false }
      if fromTap { found.fromTap += 1 }
      message.number = next
      try await body(message)
      return true
    }
    var seam = destination.seam
    seam?.begin(
      dumpOf: destination.record.summary.messages, keepsOrder: destination.queue.limit("max-priority") == nil)
    var before: UInt64 = 0
    for part in destination.parts {
      let first = before
      try await MessageArchiveReader.read(
        try await part.reader.read(part.artifact), object: part.artifact.key.rawValue
      ) { event in
        guard case .message(var message) = event else { return }
        message.number += first
        try seam?.note(message)
        _ = try await offer(message, fromTap: false)
      }
      before += UInt64(part.record.summary.messages)
    }
    // A dump takes as many messages as there were when it began: later ones only where consumers took of these.
    let isShared = destination.record.consumers > 0 || destination.record.unacknowledged > 0
    if let limit, destination.ended > limit, isShared { found.mayBeAfterTarget += destination.record.summary.messages }
    guard let tap, var seam else { return found }
    let record = destination.record
    try await tap.read(
      vhost: record.vhost, queue: record.name, since: seam.start, after: record.began ?? .max, through: limit,
      allowsGaps: overrides.contains(.tapGap)
    ) { message, arrival in
      let side = seam.side(arrival)
      guard side != .before else { return }
      if let limit, arrival.lowerBound > limit {
        found.afterTarget += 1
        return
      }
      let verdict = side == .at ? try seam.verdict(message) : .new
      guard verdict != .inDump, try await offer(message, fromTap: true) else { return }
      if verdict == .mayBeInDump { found.mayBeInDump += 1 } else if seam.mayPrecede(arrival) { found.aroundDump += 1 }
      if let limit, arrival.upperBound > limit { found.mayBeAfterTarget += 1 }
    }
    return found
  }

  /// A stream drops arrays and tables from headers without a word, and a decimal ends the channel.
  private func refuseForStream(_ message: ArchivedMessage, _ destination: Destination) throws {
    guard !overrides.contains(.streamHeaders), destination.record.type != "stream" else { return }
    let lost = try message.rawProperties().headers?.first {
      [UInt8(ascii: "A"), UInt8(ascii: "F"), UInt8(ascii: "D")].contains($0.type)
    }
    guard let lost else { return }
    throw DRError(
      .destinationInUse,
      "message \(message.number) has the header '\(String(buffer: lost.name))', which a stream does not keep",
      advice: "restore into a classic or a quorum queue, or override '\(RestoreRefusal.streamHeaders)'",
      object: destination.queue.title)
  }

  private func failed(_ window: PublishWindow, _ destination: Destination) -> DRError {
    let first = window.failures.min { ($0.number ?? .max) < ($1.number ?? .max) }
    let which = first?.number.map { "message \($0)" } ?? "a message"
    return DRError(
      .sourceFailed,
      "\(which) of those to be restored from \(destination.record.artifact) is not in its queue: \(first?.reason ?? "no reason was given"). "
        + "All before message \(window.confirmed) are",
      advice: "see the queue's limits and bindings; a restore with a journal goes on from there",
      object: destination.queue.title)
  }

  private func removeExchange(_ exchange: String, _ vhost: String, _ logger: Logger) async {
    let broker = broker
    await Task {
      do {
        try await AMQPConnection.withConnection(broker, vhost: vhost, logger: logger) {
          try await $0.deleteExchange(exchange)
        }
      } catch {
        logger.warning(
          "the exchange of a restore stays; it goes with its queue or the next restore",
          metadata: ["rabbitmq.exchange": "\(exchange)", "error": "\(error)"])
      }
    }.value
  }
}
