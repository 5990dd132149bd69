import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

extension RabbitMQTests {
  private static func tap(
    _ broker: TestBroker, _ repository: Repository, firehose: Bool = false, segmentSize: Int = 8 << 20,
    _ onDurable: @escaping @Sendable (RecoveryPoint) async -> Void = { _ in }
  ) throws -> RabbitMQTap {
    var options = RabbitMQTap.Options(name: "test")
    options.segmentInterval = .milliseconds(300)
    options.firehose = firehose
    options.segmentSize = segmentSize
    return try RabbitMQTap(
      component: Component(.rabbitmq, "test"), broker: broker.settings,
      queues: RabbitMQQueueSelection(vhosts: [broker.vhost]), tier: repository.tier, options: options,
      logger: TestBroker.logger, onDurable: onDurable)
  }

  private static func captured(
    _ broker: TestBroker, _ queue: String, _ repository: Repository
  ) async throws -> [String] {
    try await capturedMessages(broker, queue, repository).map(\.text)
  }

  private static func capturedMessages(
    _ broker: TestBroker, _ queue: String, _ repository: Repository
  ) async throws -> [ArchivedMessage] {
    let facts = try await BrokerFacts(broker.api, definitions: try await broker.api.get("definitions"))
    let log = try RabbitMQTapLog(
      tier: repository.tier, component: Component(.rabbitmq, "test"), cluster: facts.identifier)
    var messages: [ArchivedMessage] = []
    try await log.read(vhost: broker.vhost, queue: queue) { message, _ in messages.append(message) }
    return messages
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

  @Test(
    "A segment whose acknowledgement was lost is recognised without a secret key, and not stored twice",
    arguments: ["classic", "quorum"])
  func repeatedSegment(type: String) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders")
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "fanout", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales")
      }
      try await TestBroker.withRepository { repository, _ in
        let identity = AgeIdentity.generate()
        let encoding = Encoding(recipients: [try #require(identity.recipient)])
        var options = RabbitMQTap.Options(name: "test")
        options.segmentInterval = .milliseconds(300)
        options.type = type
        let tap = try RabbitMQTap(
          component: Component(.rabbitmq, "test"), broker: broker.settings,
          queues: RabbitMQQueueSelection(vhosts: [broker.vhost]), tier: repository.tier, encoding: encoding,
          options: options, logger: TestBroker.logger)
        let name = try #require(try await tap.prepare(logger: TestBroker.logger).first?.tap)
        // A quorum queue sorts headers when they come again.
        try await broker.publish(
          TestBroker.numbered(0..<300) { $1.headers = ["z": .int32(1), "a": .uint64(.max)] }, to: "", exchange: "sales")
        let facts = try await BrokerFacts(broker.api, definitions: try await broker.api.get("definitions"))
        let key = RabbitMQTapLog.key(vhost: broker.vhost, queue: "orders")
        // What a killed tap leaves: the messages handed out once, and their segment stored without an acknowledgement.
        let store = try RabbitMQTapLog(
          tier: repository.tier, component: Component(.rabbitmq, "test"), cluster: facts.identifier, encoding: encoding)
        let header = MessageArchive.Header(
          vhost: broker.vhost, queue: "orders", type: "tap", durable: true, arguments: [:], broker: nil,
          brokerVersion: nil, captured: "")
        var writer = try MessageArchiveWriter(header, into: ByteBuffer())
        var digest = RepetitionDigest()
        for message in try await broker.dump(name) {
          try writer.add(message, exchange: "sales", routingKey: "")
          try digest.add(message)
        }
        try writer.finish()
        let pending = RabbitMQTapLog.State.Pending(number: 1, messages: 300, sha256: digest.hex())
        try await store.note(RabbitMQTapLog.State(acknowledged: 0, pending: pending), of: key)
        try await store.put(key, 1, writer.buffer)

        let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
        try await broker.publish(TestBroker.numbered(300..<400), to: "", exchange: "sales")
        let log = try RabbitMQTapLog(
          tier: repository.tier, component: Component(.rabbitmq, "test"), cluster: facts.identifier,
          decoding: Decoding(identities: [identity]))
        func captured() async throws -> [String] {
          var texts: [String] = []
          try await log.read(vhost: broker.vhost, queue: "orders") { message, _ in texts.append(message.text) }
          return texts
        }
        try await TestBroker.eventually("the rest is captured") { try await captured().count >= 400 }
        following.cancel()
        _ = await following.result
        #expect(try await captured() == (0..<400).map(String.init))
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
          TestBroker.numbered(numbers) { number, properties in
            properties.headers = ["timestamp_in_ms": .int64(now)]
            // An id that comes again is no copy: its body is another.
            properties.messageID = "m-\(number % 250)"
          }, to: "", exchange: "sales")
      }
      try await TestBroker.withRepository { repository, _ in
        let tap = try Self.tap(broker, repository)
        try await tap.prepare(logger: TestBroker.logger)
        let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
        try await publish(0..<200)
        let manifest = try await TestBroker.backUp(
          broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["orders"])), to: repository)
        try await publish(200..<300)
        // What counts is when a message came to the tap, which on a busy machine is some time after it was confirmed.
        try await TestBroker.eventually("what came before the moment is captured") {
          try await Self.captured(broker, "orders", repository).count == 300
        }
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
        for (target, there, count) in [
          (RecoveryTarget.time(moment), 400, 300), (.latest, 300, 400), (.immediate, 400, 200),
        ] {
          // What a dump has read comes back first: a purge takes only what is there.
          try await TestBroker.eventually("all are back") { try await broker.depth("orders") == there }
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

  @Test("By the firehose a tap hears the default exchange too: every property and type, and no other queue's messages")
  func firehose() async throws {
    try await TestBroker.with { broker in
      for queue in ["orders", "other"] { try await broker.declare(queue) }
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "fanout", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales")
      }
      try await TestBroker.withRepository { repository, _ in
        let tap = try Self.tap(broker, repository, firehose: true)
        let coverage = try await tap.prepare(logger: TestBroker.logger)
        #expect(coverage.count == 2 && coverage.allSatisfy { $0.tap != nil && $0.hearsDefaultExchange })
        #expect(coverage.allSatisfy { $0.notCovered == ["what is dead-lettered to the default exchange"] })
        #expect(try await broker.api.get("vhosts/\(broker.vhost)").object?["tracing"] == .bool(true))

        // Killed in between, and started again.
        for part in 0..<3 {
          let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
          let start = part * 300
          try await broker.publish(TestBroker.numbered(start..<(start + 100)), to: "orders")
          try await broker.publish(TestBroker.numbered(9000..<9050), to: "other")
          try await broker.publish(TestBroker.numbered((start + 100)..<(start + 200)), to: "", exchange: "sales")
          try await broker.publish(TestBroker.numbered((start + 200)..<(start + 300)), to: "orders")
          if part == 1 { try await Task.sleep(for: .milliseconds(400)) }
          following.cancel()
          _ = await following.result
        }
        let properties = everyProperty(user: broker.settings.user)
        try await broker.publish([TestBroker.message(properties, ByteBuffer(bytes: [0, 255]))], to: "orders")
        let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
        try await TestBroker.eventually("everything is captured") {
          let orders = try await Self.captured(broker, "orders", repository).count
          let others = try await Self.captured(broker, "other", repository).count
          return orders >= 901 && others >= 150
        }
        following.cancel()
        _ = await following.result
        let orders = try await Self.capturedMessages(broker, "orders", repository)
        let texts = orders.dropLast().map(\.text)
        #expect(texts == (0..<900).map(String.init))
        let others = try await Self.captured(broker, "other", repository)
        let once = (9000..<9050).map(String.init)
        #expect(others == once + once + once)
        let typed = try #require(orders.last)
        #expect(typed.exchange.isEmpty && String(buffer: typed.routingKey) == "orders")
        #expect(typed.body == ByteBuffer(bytes: [0, 255]))
        try expectRewritten(typed, properties)

        // Nothing is left, and nobody listens any more.
        #expect(try await tap.removeTaps(logger: TestBroker.logger) == 2)
        #expect(try await broker.api.get("vhosts/\(broker.vhost)").object?["tracing"] == .bool(false))
      }
    }
  }

  @Test("Segments hold whole messages, also those that are larger than a segment; an idle tap says how far it is")
  func largeMessages() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders")
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "fanout", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales")
      }
      try await TestBroker.withRepository { repository, _ in
        let points = MutableBox<[RecoveryPoint]>([])
        // Less than one frame of AMQP, and less than a message.
        let tap = try Self.tap(broker, repository, segmentSize: 100_000) { _ in }
        try await tap.prepare(logger: TestBroker.logger)
        let sizes = [0, 1, 99_900, 100_000, 300_000, 131_064, 131_065, 700_000, 5]
        let sent = (0..<45).map { number in
          TestBroker.message(
            AMQPProperties(), ByteBuffer(repeating: UInt8(number), count: sizes[number % sizes.count]))
        }
        let before = Date()
        let following = Task {
          try await tap.follow(logger: TestBroker.logger) { point in points.withLock { $0.append(point) } }
        }
        try await broker.publish(sent, to: "", exchange: "sales")
        let published = Date()
        try await TestBroker.eventually("the tap says that it has everything") {
          points.value.last.map { $0.time > published } ?? false
        }
        let captured = try await Self.capturedMessages(broker, "orders", repository)
        #expect(captured.map(\.body) == sent.map(\.body))
        // Nothing comes, and still it is known how little a disaster would cost.
        let last = try #require(points.value.last)
        try await TestBroker.eventually("the idle tap speaks") {
          points.value.last.map { $0.time > last.time } ?? false
        }
        following.cancel()
        _ = await following.result
        let times = points.value.map(\.time)
        #expect(times == times.sorted() && times.allSatisfy { $0 > before })
      }
    }
  }

  @Test("A tap follows the bindings of its queue: what is bound later is captured, what is unbound is no longer")
  func bindings() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders")
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "topic", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales", routingKey: "a.*")
      }
      try await TestBroker.withRepository { repository, _ in
        let tap = try Self.tap(broker, repository)
        let name = try #require(try await tap.prepare(logger: TestBroker.logger).first?.tap)
        try await broker.publish(TestBroker.numbered(0..<1), to: "a.x", exchange: "sales")
        try await broker.connected { try await $0.bind(queue: "orders", to: "sales", routingKey: "b.*") }
        try await broker.api.delete("bindings/\(broker.vhost)/e/sales/q/orders/a.%2A")
        try await tap.prepare(logger: TestBroker.logger)
        try await broker.publish(TestBroker.numbered(1..<2), to: "b.x", exchange: "sales")
        let bindings = try await broker.api.get("queues/\(broker.vhost)/\(name)/bindings").array ?? []
        #expect(Set(bindings.compactMap { $0.object?["routing_key"]?.string }).subtracting([name]) == ["b.*"])
        #expect(try await broker.dump(name).map(\.text) == ["0", "1"])
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
