import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

extension RabbitMQTests {
  private static func tap(
    _ broker: TestBroker, _ repository: Repository,
    _ onDurable: @escaping @Sendable (RecoveryPoint) async -> Void = { _ in }
  ) throws -> RabbitMQTap {
    var options = RabbitMQTap.Options(name: "test")
    options.segmentInterval = .milliseconds(300)
    return try RabbitMQTap(
      component: Component(.rabbitmq, "test"), broker: broker.settings,
      queues: RabbitMQQueueSelection(vhosts: [broker.vhost]), tier: repository.tier, options: options,
      logger: TestBroker.logger, onDurable: onDurable)
  }

  private static func captured(_ broker: TestBroker, _ queue: String, _ repository: Repository) async throws -> [String]
  {
    let facts = try await BrokerFacts(broker.api, definitions: try await broker.api.get("definitions"))
    let log = try RabbitMQTapLog(
      tier: repository.tier, component: Component(.rabbitmq, "test"), cluster: facts.identifier)
    var texts: [String] = []
    try await log.read(vhost: broker.vhost, queue: queue) { message, _ in texts.append(message.text) }
    return texts
  }

  @Test("A tap captures what is published while consumers drain the queue, and goes on without gap or duplicate")
  func tapping() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders")
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "topic", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales", routingKey: "order.#")
      }
      try await TestBroker.withRepository { repository, _ in
        let coverage = try await Self.tap(broker, repository).prepare(logger: TestBroker.logger)
        #expect(coverage.count == 1 && coverage[0].exchanges == ["sales"])
        #expect(coverage[0].notCovered.contains { $0.contains("default exchange") })

        // Killed at random moments, and started again.
        var random = TestData.Random(seed: 9)
        let total = 6000
        var sent = 0
        for _ in 0..<6 {
          let tap = try Self.tap(broker, repository)
          let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
          try await broker.publish(
            TestBroker.numbered(sent..<(sent + 1000), size: 200), to: "order.new", exchange: "sales")
          sent += 1000
          // The application takes its messages.
          try await broker.api.delete("queues/\(broker.vhost)/orders/contents")
          try await Task.sleep(for: .milliseconds(Int.random(in: 0...900, using: &random)))
          following.cancel()
          _ = await following.result
        }
        let tap = try Self.tap(broker, repository)
        let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
        try await TestBroker.eventually("everything is captured") {
          try await Self.captured(broker, "orders", repository).count >= total
        }
        following.cancel()
        _ = await following.result
        let numbers = try await Self.captured(broker, "orders", repository).map { Int($0.prefix { $0 != "." }) }
        #expect(numbers == (0..<total).map { $0 })
        #expect(try await tap.removeTaps(logger: TestBroker.logger) == 1)
      }
    }
  }

  @Test("A segment whose acknowledgement was lost is recognised and not stored twice")
  func repeatedSegment() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders")
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "fanout", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales")
      }
      try await TestBroker.withRepository { repository, _ in
        let tap = try Self.tap(broker, repository)
        let name = try #require(try await tap.prepare(logger: TestBroker.logger).first?.tap)
        try await broker.publish(TestBroker.numbered(0..<300), to: "", exchange: "sales")
        // What a killed tap leaves: the messages handed out once, and their segment stored without an acknowledgement.
        let dumped = try await broker.dump(name)
        let facts = try await BrokerFacts(broker.api, definitions: try await broker.api.get("definitions"))
        let log = try RabbitMQTapLog(
          tier: repository.tier, component: Component(.rabbitmq, "test"), cluster: facts.identifier)
        let header = MessageArchive.Header(
          vhost: broker.vhost, queue: "orders", type: "tap", durable: true, arguments: [:], broker: nil,
          brokerVersion: nil, captured: "")
        var writer = try MessageArchiveWriter(header, into: ByteBuffer())
        for message in dumped { try writer.add(message, exchange: "sales", routingKey: "") }
        try writer.finish()
        try await log.put(RabbitMQTapLog.key(vhost: broker.vhost, queue: "orders"), 1, writer.buffer)

        let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
        try await broker.publish(TestBroker.numbered(300..<400), to: "", exchange: "sales")
        try await TestBroker.eventually("the rest is captured") {
          try await Self.captured(broker, "orders", repository).count >= 400
        }
        following.cancel()
        _ = await following.result
        let captured = try await Self.captured(broker, "orders", repository)
        #expect(captured == (0..<400).map(String.init))
      }
    }
  }

  @Test("A dump and a tap bring a queue back to a moment: what was published until then, once and in order")
  func pointInTime() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders", "quorum")
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "fanout", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales")
      }
      func publish(_ numbers: Range<Int>) async throws {
        let now = Int64(Date().timeIntervalSince1970 * 1000)
        try await broker.publish(
          TestBroker.numbered(numbers) { $1.headers = ["timestamp_in_ms": .int64(now)] }, to: "", exchange: "sales")
      }
      try await TestBroker.withRepository { repository, _ in
        let tap = try Self.tap(broker, repository)
        try await tap.prepare(logger: TestBroker.logger)
        let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
        try await publish(0..<200)
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["orders"])), to: repository)
        try await publish(200..<300)
        try await Task.sleep(for: .milliseconds(20))
        let moment = Date()
        try await Task.sleep(for: .milliseconds(20))
        try await publish(300..<400)
        try await TestBroker.eventually("everything is captured") {
          try await Self.captured(broker, "orders", repository).count == 400
        }
        following.cancel()
        _ = await following.result
        var restorer = broker.restorer()
        restorer.tap = try RabbitMQTapLog(
          tier: repository.tier, component: Component(.rabbitmq, "test"),
          cluster: try #require(manifest.systemIdentifier))
        let outcomes = MutableBox<[RabbitMQMessageRestorer.QueueOutcome]>([])
        restorer.onQueue = { outcome in outcomes.withLock { $0.append(outcome) } }
        // The tap's own queue is no part of a backup, and is not restored.
        let plan = try await RabbitMQDefinitionsRestorer(broker: broker.settings, vhosts: [broker.vhost])
          .plan(from: repository.reader(for: manifest), logger: TestBroker.logger)
        #expect(plan.diff.entries.isEmpty, "\(plan.diff.entries)")
        for (target, count) in [(RecoveryTarget.time(moment), 300), (.latest, 400), (.immediate, 200)] {
          try await broker.api.delete("queues/\(broker.vhost)/orders/contents")
          try await TestBroker.eventually("the queue is empty") { try await broker.depth("orders") == 0 }
          _ = try await restorer.restore(from: repository.reader(for: manifest), to: target, logger: TestBroker.logger)
          #expect(try await broker.dump("orders").map(\.text) == (0..<count).map(String.init))
        }
        #expect(outcomes.value.map(\.fromTap) == [100, 200, 0])
        #expect(outcomes.value.first?.afterTarget == 100)
      }
    }
  }

  @Test("A tap is never bound to an exchange that hands a message to one queue only")
  func stealingExchange() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("shard")
      try await broker.declare("bare")
      try await broker.api.put(
        "exchanges/\(broker.vhost)/hash",
        ["type": "x-consistent-hash", "durable": true, "auto_delete": false, "internal": false, "arguments": [:]])
      try await broker.api.post("bindings/\(broker.vhost)/e/hash/q/shard", ["routing_key": "1", "arguments": [:]])
      try await TestBroker.withRepository { repository, _ in
        let tap = try Self.tap(broker, repository)
        let coverage = try await tap.prepare(logger: TestBroker.logger)
        #expect(coverage.count == 2 && coverage.allSatisfy { $0.tap == nil })
        #expect(coverage.contains { $0.description.contains("would take messages away") })
        await expectError {
          try await tap.follow(logger: TestBroker.logger) { _ in }
        } matching: {
          ($0 as? DRError)?.code == .invalidConfiguration
        }
      }
    }
  }
}
