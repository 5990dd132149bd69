import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

extension RabbitMQTests {
  /// The whole way once: definitions and messages into a repository, the vhost lost, and all of it back.
  @Test func aLostVHostComesBackWithItsMessages() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders")
      try await broker.connected { connection in
        try await connection.declareExchange("sales", type: "topic", durable: true, autoDelete: false)
        try await connection.bind(queue: "orders", to: "sales", routingKey: "order.#")
      }
      try await broker.publish(TestBroker.numbered(0..<2500), to: "orders")
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
        #expect(record.summary.messages == 2500)
        #expect(record.readyAfter == 2500 && record.orderAfter == "same")
        #expect(try await broker.depth("orders") == 2500)

        try await broker.removeVHost()
        let reader = repository.reader(for: manifest)
        let definitions = RabbitMQDefinitionsRestorer(broker: broker.settings, vhosts: [broker.vhost])
        let report = try await definitions.run(from: reader, logger: TestBroker.logger)
        #expect(!report.hasFailures, "\(report.findings)")
        #expect(report.diff.entries(.add).contains { $0.kind == .bindings })
        let outcome = try await broker.restorer().restore(from: reader, to: .latest, logger: TestBroker.logger)
        #expect(outcome.items == 2500)
        let messages = try await broker.dump("orders")
        #expect(messages.map(\.text) == (0..<2500).map(String.init))
        #expect(try await broker.dump("orders").map(\.redelivered) == Array(repeating: true, count: 2500))
      }
    }
  }
}
