import DRCore
import DRPlan
import DRRabbitMQ
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// RabbitMQ in the drill: definitions of every kind, queues of every type, a tap beside them.
actor RabbitMQDrill: DrillSystem {
  nonisolated let component: Component
  var broker: RabbitMQSandbox?
  var restored: RabbitMQSandbox?
  var ledger: RabbitMQLedger?
  var tapping: Task<Void, any Error>?
  var known: [PublishedMessage] = []
  /// Where the broker was that was destroyed, and what came back.
  var address = Address(host: "", port: 0)
  var back: Back?
  /// Through which moment the tap has everything, and what ended it if something did.
  let tapped = MutableBox<(durable: Date, failure: (any Error)?)>((.distantPast, nil))

  struct Address: Codable {
    var host: String
    var port: Int
  }

  struct Back {
    var broker: RabbitMQSandbox
    var definitions: [Finding]
    var seen: [String: [ArchivedMessage]]
  }

  struct Memory: Codable {
    var address: Address
    var known: [PublishedMessage]
  }

  init() throws { component = try Component(.rabbitmq, "drill") }

  // MARK: Before the disaster

  func start(_ run: DrillRun) async throws {
    run.say("starting a RabbitMQ broker of the drill's own")
    let broker = try await run.measure(self, "start a broker") {
      try await RabbitMQSandbox.create(logger: run.logger)
    }
    self.broker = broker
    address = Address(host: broker.settings.host, port: Int(broker.settings.port))
    run.version(
      of: self,
      try await ManagementAPI(broker.settings).get("overview").object?["rabbitmq_version"]?.string ?? "unknown")
    try await define(ManagementAPI(broker.settings), broker.settings.user)
    var options = RabbitMQTap.Options(name: "drill")
    options.segmentInterval = .seconds(run.options.partialInterval / 2)
    let tap = try RabbitMQTap(
      component: component, broker: broker.settings,
      queues: RabbitMQQueueSelection(vhosts: [RabbitMQLedger.vhost]), tier: run.repository.tier, encoding: run.encoding,
      options: options, logger: run.logger)
    try await tap.prepare(logger: run.logger)
    let (logger, tapped) = (run.logger, tapped)
    tapping = Task {
      do {
        try await tap.follow(logger: logger) { point in tapped.withLock { $0.durable = point.time } }
      } catch {
        tapped.withLock { $0.failure = error }
        throw error
      }
    }
    run.say("publishing a ledger into \(RabbitMQLedger.kept.count + 1) queues of RabbitMQ, and consuming one of them")
    ledger = RabbitMQLedger(broker.settings, logger: run.logger)
  }

  func define(_ api: ManagementAPI, _ user: String) async throws {
    let vhost = RabbitMQLedger.vhost
    try await api.put("vhosts/\(vhost)", ["description": "the drill's platform", "tags": "drill"])
    try await api.put("permissions/\(vhost)/\(user)", ["configure": ".*", "write": ".*", "read": ".*"])
    try await api.put("users/agent", ["password": "of the drill alone", "tags": "monitoring"])
    try await api.put("permissions/\(vhost)/agent", ["configure": "^agents", "write": ".*", "read": ".*"])
    try await api.put(
      "topic-permissions/\(vhost)/agent", ["exchange": RabbitMQLedger.exchange.asJSON, "write": "^t", "read": ".*"])
    try await api.put(
      "policies/\(vhost)/lazy",
      ["pattern": "^tasks$", "definition": ["queue-mode": "lazy"], "priority": 1, "apply-to": "queues"])
    try await api.put(
      "operator-policies/\(vhost)/cap",
      ["pattern": "^dead$", "definition": ["max-length": 100_000], "priority": 0, "apply-to": "queues"])
    try await api.put("vhost-limits/\(vhost)/max-queues", ["value": 100])
    try await api.put(
      "exchanges/\(vhost)/\(RabbitMQLedger.exchange)",
      ["type": "topic", "durable": true, "auto_delete": false, "internal": false, "arguments": [:]])
    for queue in RabbitMQLedger.queues {
      try await api.put(
        "queues/\(vhost)/\(queue.name)", ["durable": true, "auto_delete": false, "arguments": .object(queue.arguments)])
      try await api.post(
        "bindings/\(vhost)/e/\(RabbitMQLedger.exchange)/q/\(queue.name)",
        ["routing_key": .string(queue.name), "arguments": [:]])
    }
  }

  func backUp(_ run: DrillRun) async throws {
    guard let broker else { return }
    let source = source(broker)
    let manifest = try await run.measure(self, "dump definitions and messages, a tap beside it") {
      try await run.repository.backUp(source, cadence: .daily, encoding: run.encoding, logger: run.logger)
    }
    let records = RabbitMQQueueRecord.all(of: manifest)
    run.say(
      "\(manifest.id) of RabbitMQ: \(records.reduce(0) { $0 + $1.summary.messages }) messages of \(records.count) queues"
    )
    let whole = records.allSatisfy { $0.readyAfter >= $0.readyBefore || $0.consumers > 0 || $0.type == "stream" }
    run.check(self, "the dump left every queue as deep as before", whole && !records.isEmpty, "\(records.count) queues")
  }

  func source(_ broker: RabbitMQSandbox) -> RabbitMQMessageSource {
    RabbitMQMessageSource(
      component: component, broker: broker.settings,
      queues: RabbitMQQueueSelection(
        vhosts: [RabbitMQLedger.vhost], patterns: RabbitMQLedger.queues.map(\.name)))
  }

  /// Also waits until the tap has everything: the drill tells what a disaster costs from the latest, and of the moment that
  /// it is possible.
  func betweenChanges(_ body: @escaping @Sendable () async throws -> Void) async throws {
    guard let ledger else { return try await body() }
    let tapped = tapped
    try await ledger.betweenChanges {
      let closed = Date()
      try await withTimeLimit(.seconds(120), "the tap of RabbitMQ to catch up") {
        while tapped.value.durable < closed {
          if let failure = tapped.value.failure { throw failure }
          try await Task.sleep(for: .milliseconds(10))
        }
      }
      try await body()
    }
  }

  func destroy(_ run: DrillRun) async throws {
    guard let broker, let ledger else { return }
    if let failure = tapped.value.failure { throw failure }
    try await broker.kill()
    try await broker.wipe()
    await ledger.stop()
    known = ledger.known
    tapping?.cancel()
    // It had worked until the broker went; that it cannot end in good order without one is no wonder.
    _ = await tapping?.result
    run.say("RabbitMQ had confirmed \(known.count) messages")
  }

  func memory() throws -> Data { try JSONEncoder().encode(Memory(address: address, known: known)) }

  // MARK: At the end

  func openingCommands(_ run: DrillRun) async throws -> [String] {
    let definitions = try await newest(run).artifact("definitions.json")
    let open = run.isEncrypted ? "age -d -i \(run.folder.identity)" : "cat"
    return [
      "\(open) \(run.folder.repository)/\(definitions.key) | zstd -d | python3 -m json.tool | head",
      "find \(run.folder.repository)/rabbitmq/messages -type f",
    ]
  }

  func endAbandoned(_ logger: Logger) async throws { try await RabbitMQSandbox.removeAbandoned(logger: logger) }

  func close() async throws {
    tapping?.cancel()
    await ledger?.stop()
    for sandbox in [broker, restored].compactMap({ $0 }) { try await sandbox.remove() }
  }
}

extension String {
  fileprivate var asJSON: JSONValue { .string(self) }
}
