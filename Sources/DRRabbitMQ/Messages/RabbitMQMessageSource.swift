public import DRCore
import DRStorage
import Foundation
public import Logging
import NIOCore

/// Captures the messages of queues without taking them, and the definitions with them.
///
/// Each queue is an artifact of its own, in the format of ``MessageArchive``; queues are read one after another, for the
/// broker holds what is read until the queue is done. What would harm a queue is refused beforehand, with the reason;
/// each reason can be overridden by its name where that makes sense. After each queue its depth is compared with before.
///
/// Messages that consumers hold are not seen: their number is in the manifest. Needs a user with the tag `administrator`
/// (for the definitions), and `read` on the queues; and, for queues with a delivery-limit, the right to make queues named
/// `dr.probe.*` and to publish to them: without it how often messages were returned cannot be known, and they are refused.
public struct RabbitMQMessageSource: BackupSource {
  /// What becomes of a capture when a queue is refused.
  public enum Refused: Sendable, Hashable {
    /// Nothing is committed.
    case fail
    /// The queue is left out, and the manifest says so and why.
    case leaveOut
  }

  public let component: Component
  public var broker: RabbitMQSettings
  public var queues: RabbitMQQueueSelection
  /// The definitions to capture with them, so that one backup holds all; nil: none.
  public var definitions: RabbitMQDefinitionsSource?
  public var refused = Refused.fail
  public var overrides: Set<DumpRefusal> = []
  /// Of streams, capture only what came behind this backup; the new one then goes on from it (``BackupManifest/parent``) and
  /// cannot be restored without it. A stream that is another one by now, made anew under its name, and those of another cluster
  /// are captured whole.
  public var since: BackupManifest?
  /// How often messages of queues with a delivery-limit had been returned at most, where it is known from the last dump
  /// and nobody else consumed since. By vhost and name.
  public var knownDeliveryCounts: [String: Int64] = [:]
  /// Where the backup goes to: it then says which taps of the component write there, and how far they had come.
  public var tier: (any StorageTier)?
  public var progress: ProgressHandler?

  public init(
    component: Component, broker: RabbitMQSettings, queues: RabbitMQQueueSelection = RabbitMQQueueSelection()
  ) {
    self.component = component
    self.broker = broker
    self.queues = queues
    definitions = RabbitMQDefinitionsSource(component: component, broker: broker)
  }

  public func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    try await locatingErrors(of: component) { try await run(into: writer, logger: logger) }
  }

  private func run(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    let api = ManagementAPI(broker)
    let settled = ContinuousClock.now + HeldMessages.lag
    _ = try await choose(api)
    var properties: [String: JSONValue] = [:]
    let facts: BrokerFacts
    if let definitions {
      let (stored, counts) = try await definitions.store(into: writer, logger: logger)
      facts = stored
      properties["definitions"] = .object(counts.counts.mapValues { .integer(Int64($0)) })
    } else {
      facts = try await BrokerFacts(api, definitions: try await api.get("definitions"))
    }
    let began = Date()
    let (chosen, others) = try await choose(api)
    let (wanted, refusals) = try await preflight(chosen, facts, api, logger)
    if let first = refusals.first, refused == .fail {
      throw DRError(
        .sourceFailed,
        "a dump could harm \(refusals.count) of \(chosen.count) queues: "
          + refusals.prefix(5).map { "\($0.queue.title): \($0.obstacle.refusal): \($0.obstacle.evidence)" }
          .joined(separator: "; "),
        advice: first.obstacle.advice
          + (first.obstacle.refusal.canBeOverridden
            ? "; or override '\(first.obstacle.refusal)'" : "") + "; or leave refused queues out",
        object: first.queue.title)
    }
    var leftOut = refusals.map {
      BackupManifest.Omission(
        what: "messages of \($0.queue.title)", reason: "\($0.obstacle.refusal): \($0.obstacle.evidence)")
    }
    if !others.isEmpty {
      leftOut.append(
        BackupManifest.Omission(
          what: others.count == 1 ? "1 other queue" : "\(others.count) other queues",
          reason: "not chosen: " + others.prefix(5).map(\.title).joined(separator: ", ")
            + (others.count > 5 ? ", …" : "")))
    }
    let meter = progress.map { ProgressMeter("messages", total: wanted.reduce(0) { $0 + $1.readyBytes }, handler: $0) }
    var records: [RabbitMQQueueRecord] = []
    for queue in wanted {
      meter?.begin(queue.title)
      let (held, consumers) = try await AMQPConnection.withConnection(broker, vhost: queue.vhost, logger: logger) {
        try await HeldMessages.of(queue, settled: settled, on: $0, api)
      }
      var queue = queue
      (queue.unacknowledged, queue.consumers) = (held.count, max(queue.consumers, consumers))
      if queue.consumers > 0, queue.kind != .stream {
        logger.warning(
          "consumers are at work at a queue that is dumped: what the dump held is given to them as redelivered, and not always in order",
          metadata: [
            "rabbitmq.queue": "\(queue.title)", "rabbitmq.consumers": "\(queue.consumers)",
            "rabbitmq.held": "\(held.count)",
          ])
      }
      let record = try await dump(queue, facts, writer, api, meter, logger)
      records.append(record)
      if let omission = held.omission(of: queue.title) { leftOut.append(omission) }
      if let from = record.fromOffset, from > 0 {
        if let first = record.summary.firstOffset, first > from {
          leftOut.append(
            BackupManifest.Omission(
              what: "\(queue.title) from offset \(from) through \(first - 1)",
              reason: "the stream's own retention had removed it"))
        }
      }
      if queue.kind != .stream, record.readyBefore > record.summary.messages {
        leftOut.append(
          BackupManifest.Omission(
            what: "\(record.readyBefore - record.summary.messages) messages of \(queue.title)",
            reason: "they were gone before they could be read: they expired, or somebody took them"))
      }
    }
    meter?.finish()
    if let tier {
      let all = (try await api.get("queues").array ?? []).compactMap(RabbitMQQueue.init)
      let taps = try await TapRecord.all(of: all, component, tier, facts.identifier)
      if !taps.isEmpty { properties["taps"] = .array(taps.map(\.json)) }
    }
    properties["queues"] = .array(try records.map { try $0.json() })
    let messages = records.reduce(0) { $0 + $1.summary.messages }
    // What was ready when the first queue was read is in it; what came later may be.
    return Capture(
      recoveryPoint: RecoveryPoint(time: began, position: "\(messages) messages"),
      parent: records.contains { $0.fromOffset ?? 0 > 0 } ? since?.id : nil, method: .snapshot,
      serverVersion: facts.rabbitMQVersion, systemIdentifier: facts.identifier, leftOut: leftOut,
      properties: properties)
  }

  /// The queues that are to be dumped, and the others of these vhosts, in the order of their names.
  private func choose(_ api: ManagementAPI) async throws -> ([RabbitMQQueue], [RabbitMQQueue]) {
    let policies = try await QueuePolicies.read(api)
    let all = (try await api.get("queues").array ?? []).compactMap(RabbitMQQueue.init).map(policies.applied).filter {
      // What is in a tap is on its way into the change log.
      !$0.name.hasPrefix(RabbitMQTap.queuePrefix) && !$0.name.hasPrefix(ProbeQueue.prefix)
        && (queues.vhosts?.containsExactly($0.vhost) ?? true)
    }.sorted { $0.title.exact < $1.title.exact }
    func isChosen(_ queue: RabbitMQQueue) -> Bool {
      queues.contains(vhost: queue.vhost, name: queue.name, type: queue.kind.rawValue, durable: queue.durable)
    }
    let chosen = all.filter(isChosen)
    if let first = queues.unmatched(by: all.map { ($0.vhost, $0.name, $0.kind.rawValue, $0.durable) }).first {
      throw DRError(
        .invalidConfiguration, "no queue is named \(first)",
        advice: "see the names, and that the shell left * alone: '*' stands for any text", component: component,
        object: first)
    }
    if chosen.isEmpty, let patterns = queues.patterns, !patterns.isEmpty {
      // An empty backup would be the newest one, and taken for all there is.
      throw DRError(
        .invalidConfiguration, "no queue is named \(patterns.prefix(5).joined(separator: " or "))",
        advice: "see the names, and that the shell left * alone: '*' stands for any text", component: component)
    }
    return (chosen, all.filter { !isChosen($0) })
  }

  // MARK: Before

  private struct Refusal {
    var queue: RabbitMQQueue
    var obstacle: DumpObstacle
  }

  private func preflight(
    _ queues: [RabbitMQQueue], _ facts: BrokerFacts, _ api: ManagementAPI, _ logger: Logger
  ) async throws -> ([RabbitMQQueue], [Refusal]) {
    let rooms = try await NodeRoom.read(api)
    let policies = try await QueuePolicies.read(api)
    var connections: [ExactName: AMQPConnection] = [:]
    defer {
      let all = Array(connections.values)
      Task { for connection in all { await connection.close() } }
    }
    var watched: Set<ExactName> = []
    for queue in queues where queue.kind == .quorum {
      let ready = try await depth(queue, &connections, logger)?.ready ?? queue.ready
      if needsCounts(queue, ready: ready, facts) { watched.insert(queue.identity) }
    }
    var areCountsCurrent = false
    if let first = queues.first(where: { watched.contains($0.identity) }) {
      areCountsCurrent = try await StatisticsBarrier(broker, api).pass(vhost: first.vhost, logger: logger)
    }
    var wanted: [RabbitMQQueue] = []
    var refusals: [Refusal] = []
    for listed in queues {
      let isWatched = watched.contains(listed.identity)
      // The list leaves out what one queue says of its consumers.
      var queue =
        rooms.count > 1 && isWatched
        ? try await settled(listed, api) : try await RabbitMQQueue.find(listed.vhost, listed.name, api)
      queue = policies.applied(to: queue)
      queue.hasCurrentCounts = isWatched && areCountsCurrent
      let said = try await depth(queue, &connections, logger)
      // The statistics are of some seconds ago.
      if let said { queue.consumers = Int64(said.consumers) }
      let ready = said?.ready ?? queue.ready
      let obstacles = DumpPreflight.obstacles(
        queue, ready: ready, rooms: rooms, brokerVersion: facts.rabbitMQVersion,
        knownDeliveryCount: knownDeliveryCounts[exactly: queue.title])
      let standing = obstacles.filter { !(overrides.contains($0.refusal) && $0.refusal.canBeOverridden) }
      for obstacle in obstacles where !standing.contains(obstacle) {
        logger.warning(
          "a refusal was overridden",
          metadata: ["rabbitmq.queue": "\(queue.title)", "rabbitmq.refusal": "\(obstacle.refusal)"])
      }
      if let obstacle = standing.first {
        refusals.append(Refusal(queue: queue, obstacle: obstacle))
      } else {
        wanted.append(queue)
      }
    }
    return (wanted, refusals)
  }

  /// Whether it matters how often messages of a queue were returned.
  private func needsCounts(_ queue: RabbitMQQueue, ready: Int64, _ facts: BrokerFacts) -> Bool {
    (queue.deliveryLimit(brokerVersion: facts.rabbitMQVersion) != nil
      && knownDeliveryCounts[exactly: queue.title] == nil)
      || (DumpPreflight.mayLoseOrder(queue, ready: ready) && !overrides.contains(.order))
  }

  /// What the queue itself says; nil if it cannot be asked, or is read without taking.
  private func depth(
    _ queue: RabbitMQQueue, _ connections: inout [ExactName: AMQPConnection], _ logger: Logger
  ) async throws -> (ready: Int64, consumers: Int)? {
    guard !queue.exclusive, queue.kind != .stream else { return nil }
    let connection =
      if let open = connections[queue.vhost.exact] { open } else {
        try await AMQPConnection.connect(broker, vhost: queue.vhost, logger: logger)
      }
    connections[queue.vhost.exact] = connection
    do {
      let depth = try await connection.depth(of: queue.name, queue.kind)
      return (Int64(depth.ready), depth.consumers)
    } catch {
      connections[queue.vhost.exact] = nil
      guard queue.state != "running" else { throw error }
      return nil
    }
  }

  /// Each node of a cluster gathers its counts by itself, every five seconds, and ``StatisticsBarrier`` speaks of one of
  /// them: two readings that are further apart must say the same too.
  private func settled(_ queue: RabbitMQQueue, _ api: ManagementAPI) async throws -> RabbitMQQueue {
    var last = try await RabbitMQQueue.find(queue.vhost, queue.name, api)
    for _ in 0..<5 {
      try await Task.sleep(for: .seconds(6))
      let next = try await RabbitMQQueue.find(queue.vhost, queue.name, api)
      if next.deliveries == last.deliveries, next.redeliveries == last.redeliveries { return next }
      last = next
    }
    return last
  }

  // MARK: One queue

  private func dump(
    _ queue: RabbitMQQueue, _ facts: BrokerFacts, _ writer: any BackupWriter, _ api: ManagementAPI,
    _ meter: ProgressMeter?, _ logger: Logger
  ) async throws -> RabbitMQQueueRecord {
    let artifact = RabbitMQQueueRecord.artifactName(vhost: queue.vhost, queue: queue.name)
    let from = queue.kind == .stream ? try await startingOffset(queue, facts, logger) : 0
    let began = Date().milliseconds
    let dump = try await QueueDump.begin(
      queue, broker: broker, brokerVersion: facts.rabbitMQVersion, fromOffset: from, meter: meter, logger: logger)
    do {
      try await writer.write(artifact, dump.stream, expectedLength: queue.readyBytes)
    } catch {
      await dump.end()
      throw error
    }
    await dump.end()
    let ended = Date().milliseconds
    let summary = dump.summary
    // Where neither a consumer nor an expiry can have taken messages, all that were ready must be in it.
    if queue.kind != .stream, summary.messages < dump.ready, queue.consumers == 0, !dump.mayExpire {
      throw DRError(
        .sourceFailed, "\(dump.ready) messages were ready and \(summary.messages) could be read",
        advice: "see whether a consumer or an expiry took the others, and try again", object: queue.title)
    }
    if queue.kind == .quorum, summary.messages == 0 { try await confirmEmpty(queue, api) }
    let expected = dump.mayExpire ? summary.messages : dump.ready
    var after = try await depthAfter(queue, expected: expected, isCertain: !dump.mayExpire, logger)
    let order = try await orderAfter(queue, dump, facts, logger)
    // What was read once more goes back too: nothing is on its way when this ends.
    if order != nil { after = try await depthAfter(queue, expected: after, isCertain: true, logger) }
    var harm: String?
    if queue.kind != .stream, queue.consumers == 0, after < expected {
      harm = "it is less deep after its dump than before: \(after) messages of \(expected)"
    } else if order == "differs" {
      harm = "its first messages are others after its dump than before"
    }
    if let harm {
      logger.error(
        "a queue is not as it was before its dump", metadata: ["queue": "\(queue.title)", "seen": "\(harm)"])
    }
    var record = RabbitMQQueueRecord(
      vhost: queue.vhost, name: queue.name, type: queue.kind.rawValue, durable: queue.durable, artifact: artifact,
      summary: summary, readyBefore: dump.ready, readyAfter: after, orderAfter: order,
      unacknowledged: queue.unacknowledged, consumers: queue.consumers,
      fromOffset: queue.kind == .stream ? from : nil, began: began, ended: ended, harm: harm)
    if queue.kind == .stream, let next = record.nextOffset, next > 0 {
      record.tail = try await StreamTail.read(of: queue, endingAt: next - 1, broker, logger)
      record.samples = try await StreamTail.samples(
        of: queue, summary, before: from > 0 ? recordBefore(queue, facts)?.samples ?? [] : [], broker, logger)
    }
    return record
  }

  /// Behind what the backup before has of a stream; 0: it is captured whole.
  private func startingOffset(_ queue: RabbitMQQueue, _ facts: BrokerFacts, _ logger: Logger) async throws -> Int64 {
    guard let record = recordBefore(queue, facts), let next = record.nextOffset, next > 0, let tail = record.tail
    else { return 0 }
    if try await tail.isStillOf(queue, samples: record.samples ?? [], broker, logger) { return next }
    logger.notice(
      "a stream is not the one that was captured before: it is captured whole",
      metadata: ["rabbitmq.queue": "\(queue.title)", "backup.before": "\(since?.id ?? "")"])
    return 0
  }

  private func recordBefore(_ queue: RabbitMQQueue, _ facts: BrokerFacts) -> RabbitMQQueueRecord? {
    guard let since, since.systemIdentifier == facts.identifier else { return nil }
    return RabbitMQQueueRecord.all(of: since).first {
      RabbitMQQueue.identity(vhost: $0.vhost, name: $0.name) == queue.identity && $0.type == "stream"
    }
  }

  /// Reads the first messages once more, where that costs nothing: of a queue with a delivery-limit each reading counts, and
  /// where consumers are at work or messages expire others are first by now.
  private func orderAfter(
    _ queue: RabbitMQQueue, _ dump: QueueDump, _ facts: BrokerFacts, _ logger: Logger
  ) async throws -> String? {
    guard queue.kind != .stream, queue.consumers == 0, dump.summary.messages > 0, !dump.mayExpire,
      queue.deliveryLimit(brokerVersion: facts.rabbitMQVersion) == nil,
      queue.kind == .classic || dump.summary.messages <= MessageArchiveWriter.headMessages
    else { return nil }
    let head = try await QueueDump.begin(
      queue, broker: broker, brokerVersion: nil, wanted: MessageArchiveWriter.headMessages, logger: logger)
    do {
      for try await _ in head.stream {}
    } catch {
      await head.end()
      throw error
    }
    return head.headSHA256 == dump.headSHA256 ? "same" : "differs"
  }

  /// A quorum queue without a leader says over AMQP that it is empty. Its statistics, which are up to five seconds old, must
  /// come to say so too before an empty archive is taken for all of it.
  private func confirmEmpty(_ queue: RabbitMQQueue, _ api: ManagementAPI) async throws {
    let end = ContinuousClock.now + .seconds(15)
    while true {
      let said = try await RabbitMQQueue.find(queue.vhost, queue.name, api)
      if said.ready == 0 || said.consumers > 0 { return }
      guard ContinuousClock.now < end else {
        throw DRError(
          .sourceFailed, "no message could be read, and the broker's statistics tell of \(said.ready)",
          advice: "see whether the queue has a leader and a majority of its members, and try again", object: queue.title
        )
      }
      try await Task.sleep(for: .seconds(1))
    }
  }

  /// What was held comes back within a moment; where consumers are at work or messages expire, it may not.
  private func depthAfter(
    _ queue: RabbitMQQueue, expected: Int64, isCertain: Bool, _ logger: Logger
  ) async throws -> Int64 {
    try await AMQPConnection.withConnection(broker, vhost: queue.vhost, logger: logger) { connection in
      let deadline = ContinuousClock.now + (isCertain && queue.consumers == 0 ? .seconds(30) : .seconds(2))
      while true {
        let ready = Int64(try await connection.depth(of: queue.name).ready)
        if ready >= expected || queue.kind == .stream { return ready }
        if ContinuousClock.now > deadline { return Int64(try await connection.depth(of: queue.name, queue.kind).ready) }
        try await Task.sleep(for: .milliseconds(50))
      }
    }
  }
}
