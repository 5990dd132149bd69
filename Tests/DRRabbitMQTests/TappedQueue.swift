import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

extension RabbitMQTests {
  /// A queue that is bound, and a tap of it that runs.
  struct Tapped {
    var broker: TestBroker
    var repository: Repository
    var component: Component

    func tap(_ change: (inout RabbitMQTap.Options) -> Void = { _ in }) throws -> RabbitMQTap {
      var options = RabbitMQTap.Options(name: "times")
      options.segmentInterval = .milliseconds(300)
      change(&options)
      return try RabbitMQTap(
        component: component, broker: broker.settings,
        queues: RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["orders"]), tier: repository.tier,
        options: options, logger: TestBroker.logger)
    }

    func log() async throws -> RabbitMQTapLog {
      let facts = try await BrokerFacts(broker.api, definitions: try await broker.api.get("definitions"))
      return try RabbitMQTapLog(tier: repository.tier, component: component, cluster: facts.identifier)
    }

    func captured() async throws -> Int {
      let count = MutableBox(0)
      try await log().read(vhost: broker.vhost, queue: "orders", allowsGaps: true) { _, _ in count.withLock { $0 += 1 }
      }
      return count.value
    }

    func publish(
      _ numbers: Range<Int>,
      _ change: (Int, inout AMQPProperties) -> Void = { _, properties in properties.messageID = nil }
    ) async throws {
      try await broker.publish(TestBroker.numbered(numbers, change), to: "", exchange: "sales")
    }

    func backUp() async throws -> BackupManifest {
      try await TestBroker.backUp(
        broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["orders"])), to: repository)
    }

    func capture<Result>(_ tap: RabbitMQTap, until count: Int, _ body: () async throws -> Result) async throws -> Result
    {
      let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
      let result = try await body()
      try await TestBroker.eventually("all is captured") { try await captured() >= count }
      following.cancel()
      _ = await following.result
      return result
    }

    /// Into the emptied queue.
    func restore(
      _ manifest: BackupManifest, to target: RecoveryTarget = .latest,
      _ change: (inout RabbitMQMessageRestorer) -> Void = { _ in }
    ) async throws -> (texts: [String], outcome: RabbitMQMessageRestorer.QueueOutcome) {
      try await Task.sleep(for: .milliseconds(300))
      try await broker.api.delete("queues/\(broker.vhost)/orders/contents")
      try await TestBroker.eventually("the queue is empty") { try await broker.depth("orders") == 0 }
      var restorer = broker.restorer()
      restorer.tap = try await log()
      change(&restorer)
      let outcomes = MutableBox<[RabbitMQMessageRestorer.QueueOutcome]>([])
      restorer.onQueue = { outcome in outcomes.withLock { $0.append(outcome) } }
      _ = try await restorer.restore(from: repository.reader(for: manifest), to: target, logger: TestBroker.logger)
      return (try await broker.dump("orders").map(\.text), try #require(outcomes.value.first))
    }

    func check(_ manifest: BackupManifest, readsAll: Bool = true) async throws -> [Finding] {
      try await RabbitMQTapCheck(
        tier: repository.tier, component: component, backups: [manifest], readsAll: readsAll
      ).verify(logger: TestBroker.logger)
    }
  }

  static func withTap(_ type: String = "classic", _ body: (Tapped) async throws -> Void) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders", type)
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "fanout", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales")
      }
      try await TestBroker.withRepository { repository, _ in
        try await body(Tapped(broker: broker, repository: repository, component: try Component(.rabbitmq, "test")))
      }
    }
  }
}
