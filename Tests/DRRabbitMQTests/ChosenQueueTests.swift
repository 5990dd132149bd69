import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Restores of one queue of many.
extension RabbitMQTests {
  @Test(
    "One chosen queue comes back with its vhost, exchanges, bindings and policies, and nothing else; a name that is nowhere is an error"
  )
  func chosenQueue() async throws {
    try await TestBroker.with { broker in
      for queue in ["orders", "dead", "other"] {
        let arguments: AMQPTable = queue == "orders" ? ["x-dead-letter-exchange": .string("morgue")] : [:]
        try await broker.declare(queue, "classic", arguments)
      }
      try await broker.connected { connection in
        for exchange in ["entry", "sales", "morgue", "elsewhere"] {
          try await connection.declareExchange(exchange, type: "fanout", durable: true, autoDelete: false)
        }
        try await connection.bind(queue: "orders", to: "sales")
        try await connection.bind(queue: "dead", to: "morgue")
        try await connection.bind(queue: "other", to: "elsewhere")
      }
      let vhost = broker.vhost
      try await broker.api.post("bindings/\(vhost)/e/entry/e/sales", ["routing_key": "", "arguments": [:]])
      for (name, pattern) in [("mine", "^ord"), ("others", "^oth"), ("of-exchanges", "^entry$")] {
        try await broker.api.put(
          "policies/\(vhost)/\(name)",
          [
            "pattern": .string(pattern), "priority": 1,
            "apply-to": name == "of-exchanges" ? "exchanges" : "queues",
            "definition": name == "of-exchanges" ? ["alternate-exchange": "elsewhere"] : ["max-length": 1000],
          ])
      }
      try await broker.api.put(
        "operator-policies/\(vhost)/cap",
        ["pattern": "^other$", "definition": ["max-length": 5000], "priority": 0, "apply-to": "queues"])
      try await broker.publish(TestBroker.numbered(0..<10), to: "orders")
      try await broker.publish(TestBroker.numbered(0..<10), to: "other")
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        try await broker.removeVHost()
        let selection = RabbitMQQueueSelection(vhosts: [vhost], patterns: ["orders"], includesTransient: true)
        var definitions = RabbitMQDefinitionsRestorer(broker: broker.settings, vhosts: [vhost])
        definitions.queues = selection
        let report = try await definitions.run(from: repository.reader(for: manifest), logger: TestBroker.logger)
        #expect(!report.hasFailures, "\(report.findings)")
        var messages = RabbitMQMessageRestorer(broker: broker.settings, queues: selection)
        _ = try await messages.restore(from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
        #expect(try await broker.dump("orders").map(\.text) == (0..<10).map(String.init))
        func names(_ path: String) async throws -> Set<String> {
          Set((try await broker.api.get("\(path)/\(vhost)").array ?? []).compactMap { $0.object?["name"]?.string })
        }
        #expect(try await names("queues") == ["orders"])
        let exchanges = try await names("exchanges").filter { !$0.isEmpty && !$0.hasPrefix("amq.") }
        #expect(exchanges == ["entry", "sales", "morgue", "elsewhere"])
        #expect(try await names("policies") == ["mine", "of-exchanges"])
        #expect(try await names("operator-policies").isEmpty)
        // Mistaken names.
        definitions.queues?.patterns = ["nosuch"]
        messages.queues.patterns = ["orders", "nosuch"]
        let (wrongDefinitions, wrongMessages) = (definitions, messages)
        await expectError {
          try await wrongDefinitions.run(from: repository.reader(for: manifest), logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .invalidConfiguration
        }
        await expectError {
          try await wrongMessages.restore(
            from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .invalidConfiguration
        }
      }
    }
  }
}
