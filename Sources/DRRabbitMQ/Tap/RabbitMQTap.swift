public import DRCore
public import DRStorage
import Foundation
public import Logging
import NIOCore
public import ServiceLifecycle

/// Captures continuously what is published to queues: the change source of RabbitMQ.
///
/// For each queue the tap has a durable queue of its own, bound to the same exchanges in the same way, so that it gets a copy
/// of each message, whoever consumes the original. What comes is stored in segments (each an archive of messages); it is
/// acknowledged once its segment is durable. Killed at any moment, it goes on without a gap; a segment whose
/// acknowledgement was lost is recognised and not stored twice.
///
/// It does not see what was there before the tap, what the broker dead-letters to the default exchange, nor what consumers
/// acknowledge: a replay may repeat work that was done. What is published to the default exchange (nothing can be bound to
/// that) it sees only by the broker's firehose, when ``Options/firehose`` chooses it. It is never bound to an exchange that
/// hands each message to one queue only. ``prepare(logger:)`` says what is covered. Bindings that are made or removed later
/// are followed every few minutes.
public struct RabbitMQTap: ChangeSource, Service {
  public struct Options: Sendable {
    /// Names the tap: its queues are `dr.tap.<name>.…`.
    public var name: String
    /// `classic` (lazy) or `quorum`.
    public var type = "classic"
    /// Bytes of a segment, about.
    public var segmentSize = 8 << 20
    /// A segment is stored after so long if anything came: what a disaster can cost.
    public var segmentInterval: Duration = .seconds(5)
    /// The longest pause between two attempts to connect, or to store.
    public var longestPause: Duration = .seconds(30)
    /// Hear also what is published to the default exchange, by the broker's firehose: turned on for the vhosts of the
    /// chosen queues, and off by ``RabbitMQTap/removeTaps(logger:)``. At most once: the broker tells without keeping, only
    /// of the node that is asked, and not between a restart and the next connection of the tap. Costs about 5 % of the
    /// vhost's throughput, and each tapped queue gets a copy of all that the default exchange takes.
    public var firehose = false
    /// How often bindings are compared.
    public var bindingsInterval: Duration = .seconds(180)
    /// How long after a tap was killed another one of its name may have to wait: the life of its lease in the repository.
    public var leaseLife: Duration = .seconds(30)

    public init(name: String = "dr") { self.name = name }
  }

  public let component: Component
  public let broker: RabbitMQSettings
  public let queues: RabbitMQQueueSelection
  public let options: Options
  private let tier: any StorageTier
  private let layout: RepositoryLayout
  private let encoding: Encoding
  private let logger: Logger
  private let onDurable: @Sendable (RecoveryPoint) async -> Void
  /// Called when it captures, with what it covers, and when it waits for another tap of its name.
  public var onState: @Sendable (State) -> Void = { _ in }

  public enum State: Sendable {
    /// Another tap of this name has the repository, or was killed: its lease must end first.
    case waiting
    /// Of this queue what is published is captured from now on.
    case capturing(TapCoverage)
  }

  /// To go on after an end it needs no secret key: what is encrypted is never read.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  public init(
    component: Component, broker: RabbitMQSettings, queues: RabbitMQQueueSelection, tier: any StorageTier,
    layout: RepositoryLayout = .byKind, encoding: Encoding = Encoding(),
    options: Options = Options(), logger: Logger,
    onDurable: @escaping @Sendable (RecoveryPoint) async -> Void = { _ in }
  ) throws {
    let isName = options.name.utf8.allSatisfy { byte in
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || byte == UInt8(ascii: "-")
    }
    guard isName, (1...40).contains(options.name.utf8.count) else {
      throw DRError(
        .invalidConfiguration, "'\(options.name.prefix(40))' cannot name a tap",
        advice: "use 1 to 40 lower-case letters, digits and hyphens")
    }
    guard ["classic", "quorum"].contains(options.type), options.segmentInterval > .zero, options.segmentSize > 0 else {
      throw DRError(.invalidConfiguration, "a tap is classic or quorum, and its segments are larger than nothing")
    }
    self.component = component
    self.broker = broker
    self.queues = queues
    self.tier = tier
    self.layout = layout
    self.encoding = encoding
    self.options = options
    self.logger = logger
    self.onDurable = onDurable
  }

  /// What the names of all taps' queues start with.
  static let queuePrefix = "dr.tap."
  private var prefix: String { "\(Self.queuePrefix)\(options.name)." }
  private var api: ManagementAPI { ManagementAPI(broker) }

  /// By what a tap's queue says whose it is: the component, and a digest of the repository.
  private var owner: String { Self.owner(component, tier) }
  static func owner(_ component: Component, _ tier: any StorageTier) -> String {
    "\(component)@\(StreamDigest.hex(ByteBuffer(string: tier.name)).prefix(12))"
  }
  static let ownerArgument = "x-dr-owner"
  static let queueArgument = "x-dr-queue"
  /// When it was made, in milliseconds since 1970.
  static let madeArgument = "x-dr-made"

  private func tapName(_ queue: RabbitMQQueue) -> String { prefix + Self.digits(queue) }
  private static func digits(_ queue: RabbitMQQueue) -> String {
    String(StreamDigest.hex(ByteBuffer(string: queue.title)).prefix(16))
  }

  /// Makes the taps, so that the broker keeps copies from now on, and says what they cover. Call it before a dump: then dump
  /// and tap leave nothing between them.
  @discardableResult
  public func prepare(logger: Logger) async throws -> [TapCoverage] {
    try await prepare(isFirst: true, logger)
  }

  /// - Parameter isFirst: Refuse names that are nowhere, and make what is not there.
  private func prepare(isFirst: Bool, _ logger: Logger) async throws -> [TapCoverage] {
    try await locatingErrors(of: component) {
      let all = (try await api.get("queues").array ?? []).compactMap(RabbitMQQueue.init)
      let others = all.filter { !$0.name.hasPrefix(Self.queuePrefix) && !$0.exclusive }
      let chosen = others.filter {
        queues.contains(vhost: $0.vhost, name: $0.name, type: $0.kind.rawValue, durable: $0.durable)
      }
      let unknown = queues.unmatched(by: others.map { ($0.vhost, $0.name, $0.kind.rawValue, $0.durable) })
      if isFirst, let first = unknown.first {
        throw DRError(
          .invalidConfiguration, "no queue is named \(unknown.prefix(5).joined(separator: " or "))",
          advice: "see the names, and that the shell left * alone: '*' stands for any text", object: first)
      }
      if isFirst, let vhosts = queues.vhosts {
        let known = Set((try await api.get("vhosts").array ?? []).compactMap { $0.object?["name"]?.string?.exact })
        if let missing = vhosts.first(where: { !known.contains($0.exact) }) {
          throw DRError(.invalidConfiguration, "the broker has no vhost '\(missing)'", advice: "see /api/vhosts")
        }
      }
      for queue in chosen { try refuseOther(of: queue, all) }
      let policies = try await QueuePolicies.read(api)
      var coverage: [TapCoverage] = []
      for queue in chosen.sorted(by: { $0.title.exact < $1.title.exact }) {
        // The session that misses it makes it anew, before it takes from it.
        if !isFirst, !all.contains(where: { $0.vhost.exact == queue.vhost.exact && $0.name == tapName(queue) }) {
          continue
        }
        coverage.append(try await tap(queue, policies, logger))
      }
      return coverage
    }
  }

  private func log() async throws -> (RabbitMQTapLog, BrokerFacts) {
    let facts = try await BrokerFacts(api, definitions: try await api.get("definitions"))
    let log = try RabbitMQTapLog(
      tier: tier, component: component, layout: layout, cluster: facts.identifier, encoding: encoding)
    return (log, facts)
  }

  /// Notes that the tap's queue was made: what came before is not in it.
  private func note(_ tap: String, of queue: RabbitMQQueue, made: Int64, _ logger: Logger) async throws {
    let (log, _) = try await log()
    let beginning = try await log.begin(RabbitMQTapLog.key(vhost: queue.vhost, queue: queue.name), made: made) {
      // A stream keeps what consumers had, and says late how deep it is.
      guard queue.kind != .stream else { return nil }
      let depth = try await AMQPConnection.withConnection(broker, vhost: queue.vhost, logger: logger) {
        try await $0.depth(of: queue.name, queue.kind)
      }
      return Int64(depth.ready) + queue.unacknowledged
    }
    guard let beginning, beginning.isAnew else { return }
    logger.warning(
      "the tap's queue was made anew: what was published since the end of the former one is in no tap; take a backup",
      metadata: ["rabbitmq.queue": "\(queue.title)", "rabbitmq.tap": "\(tap)"])
  }

  /// Two taps that take from one queue of the broker get a part each, and two that write one log write two logs.
  private func refuseOther(of queue: RabbitMQQueue, _ all: [RabbitMQQueue]) throws {
    let taps = all.filter {
      $0.vhost.exact == queue.vhost.exact && $0.name.hasPrefix(Self.queuePrefix)
        && $0.name.hasSuffix(".\(Self.digits(queue))")
    }
    for tap in taps {
      guard let other = tap.arguments[Self.ownerArgument]?.string else { continue }
      if tap.name == tapName(queue), other != owner {
        throw DRError(
          .invalidConfiguration, "the tap '\(options.name)' of this queue is another configuration's: \(other)",
          advice: "choose another --name; or remove that one, by its own configuration or with --of-others",
          object: queue.title)
      }
      if tap.name != tapName(queue), other == owner {
        throw DRError(
          .invalidConfiguration, "this queue is tapped into this repository already: \(tap.name)",
          advice: "go on with the --name of that one, or remove it first", object: queue.title)
      }
    }
  }

  private func tap(_ queue: RabbitMQQueue, _ policies: QueuePolicies, _ logger: Logger) async throws -> TapCoverage {
    let vhost = ManagementAPI.escape(queue.vhost)
    var coverage = TapCoverage(
      vhost: queue.vhost, queue: queue.name, tap: nil, exchanges: [], hearsDefaultExchange: options.firehose,
      notCovered: [])
    var bindings: [TapBinding] = []
    for binding in try await self.bindings(of: queue.name, vhost) {
      let exchange = try await api.find("exchanges/\(vhost)/\(ManagementAPI.escape(binding.source))")
      let type = exchange?.object?["type"]?.string ?? "unknown"
      if TapCoverage.stealing.contains(type) {
        coverage.notCovered.append(
          "what comes through '\(binding.source)': a tap on the type \(type) would take messages away")
      } else {
        bindings.append(binding)
      }
    }
    coverage.exchanges = Set(bindings.map(\.source.exact)).sorted().map(\.text)
    if options.firehose {
      try await hear(queue.vhost)
      bindings.append(.firehose)
      coverage.notCovered.append("what is dead-lettered to the default exchange")
      let others = (try await api.get("nodes").array ?? []).filter { $0.object?["running"] == .bool(true) }.count - 1
      if others > 0 {
        coverage.notCovered.append("what is published to the default exchange through \(others) other nodes")
      }
    } else {
      coverage.notCovered.insert("what is published to the default exchange", at: 0)
    }
    guard !bindings.isEmpty else { return coverage }
    let name = tapName(queue)
    coverage.tap = name
    let path = "queues/\(vhost)/\(ManagementAPI.escape(name))"
    let present = try await api.find(path).flatMap(RabbitMQQueue.init)
    var made = present?.arguments[Self.madeArgument]?.integer
    if present == nil {
      let now = Date().milliseconds
      made = now
      var arguments: [String: JSONValue] =
        options.type == "quorum" ? ["x-queue-type": "quorum"] : ["x-queue-mode": "lazy"]
      arguments[Self.ownerArgument] = .string(owner)
      arguments[Self.queueArgument] = .string(queue.name)
      arguments[Self.madeArgument] = .integer(now)
      try await api.put(path, ["durable": true, "auto_delete": false, "arguments": .object(arguments)])
    }
    let there = Set(try await self.bindings(of: name, vhost))
    func place(_ binding: TapBinding) -> String {
      "bindings/\(vhost)/e/\(ManagementAPI.escape(binding.source))/q/\(ManagementAPI.escape(name))"
    }
    for binding in Set(bindings).subtracting(there) {
      try await api.post(
        place(binding), ["routing_key": .string(binding.routingKey), "arguments": binding.arguments])
    }
    // What the queue itself no longer gets must not come back with it.
    for binding in there.subtracting(bindings) {
      if let key = binding.key { try await api.delete("\(place(binding))/\(ManagementAPI.escape(key))") }
    }
    let own =
      present ?? RabbitMQQueue(["vhost": .string(queue.vhost), "name": .string(name), "type": .string(options.type)])
    if let losing = own.flatMap({ TapCoverage.losing(policies.applied(to: $0)) }) {
      coverage.notCovered.append(losing)
      logger.warning(
        "policies make the tap's own queue lose what is to be captured: let their patterns leave out names that begin with dr.tap.",
        metadata: ["rabbitmq.queue": "\(queue.title)", "rabbitmq.tap": "\(name)", "lost": "\(losing)"])
    }
    // Also where it could not be noted when it was made.
    if let made { try await note(name, of: queue, made: made, logger) }
    return coverage
  }

  /// Turns the firehose on; a restart of the broker turns it off.
  private func hear(_ vhost: String) async throws { try await trace(vhost, true) }

  private func trace(_ vhost: String, _ isOn: Bool) async throws {
    let path = "vhosts/\(ManagementAPI.escape(vhost))"
    let there = try await api.get(path).object ?? [:]
    guard there["tracing"] != .bool(isOn) else { return }
    var body: [String: JSONValue] = ["tracing": .bool(isOn)]
    // Later versions take what is left out for empty.
    let metadata = there["metadata"]?.object
    if let text = (there["description"] ?? metadata?["description"])?.string { body["description"] = .string(text) }
    if let tags = (there["tags"] ?? metadata?["tags"])?.array, !tags.isEmpty {
      body["tags"] = .string(tags.compactMap(\.string).joined(separator: ","))
    }
    if let type = metadata?["default_queue_type"]?.string, type != "undefined" {
      body["default_queue_type"] = .string(type)
    }
    try await api.put(path, .object(body))
  }

  private func bindings(of queue: String, _ vhost: String) async throws -> [TapBinding] {
    (try await api.find("queues/\(vhost)/\(ManagementAPI.escape(queue))/bindings")?.array ?? [])
      .compactMap(TapBinding.init).filter { !$0.source.isEmpty }
  }

  /// The queues of taps of this name and of the chosen queues: those that are this configuration's, and those of others. One that
  /// an earlier version made says not whose it is, and is taken for this configuration's.
  private func taps() async throws -> (mine: [RabbitMQQueue], others: [RabbitMQQueue]) {
    let all = (try await api.get("queues").array ?? []).compactMap(RabbitMQQueue.init)
    var selection = queues
    selection.includesTransient = true
    func isChosen(_ tap: RabbitMQQueue) -> Bool {
      guard tap.name.hasPrefix(prefix), queues.vhosts?.containsExactly(tap.vhost) ?? true else { return false }
      guard queues.patterns != nil || queues.types != nil else { return true }
      if let source = all.first(where: { $0.vhost.exact == tap.vhost.exact && tapName($0) == tap.name }) {
        return selection.contains(vhost: source.vhost, name: source.name, type: source.kind.rawValue, durable: true)
      }
      // The queue itself is gone.
      guard let name = tap.arguments[Self.queueArgument]?.string else { return false }
      var named = selection
      named.types = nil
      return named.contains(vhost: tap.vhost, name: name, type: "", durable: true)
    }
    let chosen = all.filter(isChosen)
    func isMine(_ tap: RabbitMQQueue) -> Bool { tap.arguments[Self.ownerArgument]?.string.map { $0 == owner } ?? true }
    return (chosen.filter(isMine), chosen.filter { !isMine($0) })
  }

  /// Whose taps of this name there are besides this configuration's: the component, and a digest of its repository.
  public func otherOwners() async throws -> [String] {
    Set(try await taps().others.compactMap { $0.arguments[Self.ownerArgument]?.string }).sorted()
  }

  /// Removes the tap's queues, with what was not stored yet, and turns off the firehose where nobody else listens to it.
  ///
  /// Only those of the chosen queues, and of this component and repository.
  ///
  /// - Parameter ofOthers: Also those of this name that other configurations made.
  /// - Returns: How many queues were removed.
  @discardableResult
  public func removeTaps(ofOthers: Bool = false, logger: Logger) async throws -> Int {
    try await locatingErrors(of: component) {
      let found = try await taps()
      let mine = found.mine + (ofOthers ? found.others : [])
      var listening: Set<ExactName> = []
      for queue in mine {
        let vhost = ManagementAPI.escape(queue.vhost)
        if try await bindings(of: queue.name, vhost).contains(.firehose) { listening.insert(queue.vhost.exact) }
        try await api.delete("queues/\(vhost)/\(ManagementAPI.escape(queue.name))")
      }
      for vhost in listening.map(\.text) {
        let path = "exchanges/\(ManagementAPI.escape(vhost))/\(FirehoseMessage.exchange)/bindings/source"
        if try await api.find(path)?.array?.isEmpty ?? true { try await trace(vhost, false) }
      }
      return mine.count
    }
  }

  /// Follows until the task is cancelled. What was not stored by then stays in the taps.
  ///
  /// Says through which moment all of the queues are durable, also while nothing comes.
  public func follow(
    logger: Logger, onDurable: @escaping @Sendable (RecoveryPoint) async -> Void
  ) async throws {
    let coverage = try await prepare(logger: logger).filter { $0.tap != nil }
    guard !coverage.isEmpty else {
      throw DRError(
        .invalidConfiguration, "none of the chosen queues can be tapped",
        advice: "bind them to exchanges other than the default one, or choose the firehose", component: component)
    }
    let (log, facts) = try await log()
    let progress = TapProgress(coverage)
    let failure = MutableBox<DRError?>(nil)
    try await alone(facts.identifier, logger) {
      failure.withLock { $0 = nil }
      do {
        try await follow(coverage, facts.rabbitMQVersion, log, progress, logger, onDurable)
      } catch let error as DRError {
        failure.withLock { $0 = error }
        throw error
      }
    }
    // The lease ends with the cancellation, and tells only of that.
    if Task.isCancelled, let failure = failure.value { throw failure }
  }

  /// Runs the body as the only tap of this name into this repository.
  private func alone(_ cluster: String, _ logger: Logger, _ body: @escaping @Sendable () async throws -> Void)
    async throws
  {
    guard tier.capabilities.contains(.conditionalPut) else {
      logger.warning(
        "the tier cannot decide between two writers: see that no second tap of this name runs",
        metadata: ["tier": "\(tier.name)"])
      return try await body()
    }
    // The name of a lease has letters only.
    let digest = StreamDigest.hex(ByteBuffer(string: "\(component)\n\(cluster)\n\(options.name)")).prefix(32)
    let letters = String(
      digest.compactMap { $0.hexDigitValue.map { Character(UnicodeScalar(UInt8(ascii: "a") + UInt8($0))) } })
    // Longer than it takes until the lease of one that was killed runs out.
    let settings = Lease.Settings(life: options.leaseLife, patience: options.leaseLife * 1.5)
    var pause = Duration.milliseconds(200)
    while !Task.isCancelled {
      do {
        let waiting = Task {
          try await Task.sleep(for: .seconds(1))
          onState(.waiting)
        }
        defer { waiting.cancel() }
        return try await Lease.with("tap-\(letters)", on: tier, settings, logger: logger) { _ in
          waiting.cancel()
          try await body()
        }
      } catch is CancellationError {
        return
      } catch var error as DRError where error.code == .leaseHeld {
        error.message = "another tap '\(options.name)' of this component writes to this repository"
        error.advice = "end that one first; or give this one other queues, and a --name of its own"
        throw error
      } catch let error as DRError where !needsPerson(error) {
        logger.warning("the tap's lease ended; trying again", metadata: ["error": "\(error)"])
      }
      // Cancelled while it sleeps: the loop ends.
      try? await Task.sleep(for: pause * Double.random(in: 0.5...1))
      pause = min(pause * 2, options.longestPause)
    }
  }

  private func follow(
    _ coverage: [TapCoverage], _ brokerVersion: String, _ log: RabbitMQTapLog, _ progress: TapProgress,
    _ logger: Logger,
    _ onDurable: @escaping @Sendable (RecoveryPoint) async -> Void
  ) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for queue in coverage {
        group.addTask { try await follow(queue, brokerVersion, log, progress, logger) }
      }
      group.addTask { await progress.report(to: onDurable) }
      group.addTask {
        var news = RepeatedNews()
        while !Task.isCancelled {
          try? await Task.sleep(for: options.bindingsInterval)
          guard !Task.isCancelled else { return }
          do {
            _ = try await prepare(isFirst: false, logger)
          } catch {
            logger.log(
              level: news.isNew("\(error)") ? .warning : .debug, "the bindings of taps could not be compared",
              metadata: ["error": "\(error)"])
          }
        }
      }
      try await group.waitForAll()
    }
  }

  /// Follows until the service is shut down gracefully, or cancelled.
  public func run() async throws {
    try await cancelWhenGracefulShutdown { try await follow(logger: logger, onDurable: onDurable) }
  }

  private func follow(
    _ queue: TapCoverage, _ brokerVersion: String, _ log: RabbitMQTapLog, _ progress: TapProgress, _ logger: Logger
  ) async throws {
    var pause = Duration.milliseconds(200)
    var failure: DRError?
    var news = RepeatedNews()
    var isAnnounced = false
    while !Task.isCancelled {
      do {
        if options.firehose { try await hear(queue.vhost) }
        if failure?.rabbitMQCode == 404 {
          _ = try await tap(
            try await RabbitMQQueue.find(queue.vhost, queue.queue, api), try await QueuePolicies.read(api), logger)
        }
        let session = TapSession(
          queue: queue, broker: broker, brokerVersion: brokerVersion, log: log, options: options, progress: progress,
          logger: logger)
        try await session.run(
          onStart: {
            if !isAnnounced { onState(.capturing(queue)) }
            isAnnounced = true
          },
          onProgress: {
            pause = .milliseconds(200)
            failure = nil
          })
      } catch is CancellationError {
        break
      } catch is TapSession.BeginsAnew {
        logger.debug("no message came again", metadata: ["rabbitmq.queue": "\(queue.title)"])
        continue
      } catch let error as DRError where !needsPerson(error) {
        // What a cancellation cut short is no failure.
        if !Task.isCancelled { failure = error }
        // Not the object: the same disk is full for each segment.
        let text = "\(error.code) \(error.message) \(error.cause.map { DRError.text(of: $0) } ?? "")"
        logger.log(
          level: news.isNew(text) ? .warning : .debug, "the tap stopped; trying again",
          metadata: ["rabbitmq.queue": "\(queue.title)", "error": "\(error)"])
      } catch var error as DRError {
        error.component = error.component ?? component
        throw error
      }
      // Cancelled while it sleeps: the loop ends.
      try? await Task.sleep(for: pause * Double.random(in: 0.5...1))
      pause = min(pause * 2, options.longestPause)
    }
    // Told to stop while it did not work: that is no good end.
    if var failure {
      failure.component = failure.component ?? component
      failure.message = "the tap of \(queue.title) did not work when it was told to stop: \(failure.message)"
      throw failure
    }
  }

  private func needsPerson(_ error: DRError) -> Bool {
    [.invalidConfiguration, .unsupported, .invalidKey, .changeLogGap, .noMatchingIdentity].contains(error.code)
  }
}
