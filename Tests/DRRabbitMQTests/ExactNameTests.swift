import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Names that are equal only after Unicode normalisation are two: the same text to Swift, other bytes to a broker.
struct ExactNameTests {
  private static let (one, other) = ("\u{e9}", "e\u{301}")

  @Test("A selection, definitions and what differs between them tell names by their bytes")
  func comparisons() throws {
    let (one, other) = (Self.one, Self.other)
    #expect(one == other && one.exact != other.exact && Set([one.exact, other.exact]).count == 2)
    #expect(["a": 1, one: 2][exactly: other] == nil && ["a": 1, one: 2][exactly: one] == 2)
    let selection = RabbitMQQueueSelection(vhosts: [one])
    #expect(selection.contains(vhost: one, name: "q", type: "classic", durable: true))
    #expect(!selection.contains(vhost: other, name: "q", type: "classic", durable: true))
    func queue(_ name: String, _ key: String = "") -> JSONValue {
      [
        "vhost": "/", "name": .string(name), "durable": true, "auto_delete": false,
        "arguments": ["x-dead-letter-routing-key": .string(key)],
      ]
    }
    func definitions(_ queues: JSONValue...) throws -> RabbitMQDefinitions {
      try RabbitMQDefinitions(["queues": .array(queues)])
    }
    let added = RabbitMQDefinitionsDiff(
      wanted: try definitions(queue(one), queue(other)), present: try definitions(queue(other)))
    #expect(added.entries.map(\.change) == [.add] && added.same == 1)
    #expect(added.entries.first?.name.exact == "/ \(one)".exact)
    let changed = RabbitMQDefinitionsDiff(
      wanted: try definitions(queue("q", one)), present: try definitions(queue("q", other)))
    #expect(changed.entries.map(\.change) == [.conflict])
  }
}

extension RabbitMQTests {
  @Test("Queues and vhosts whose names are equal only after Unicode normalisation come back as two, each with its own")
  func namesAreBytes() async throws {
    let settings = try #require(TestBroker.current).settings
    let (forms, id) = (["\u{e9}", "e\u{301}"], UUID().uuidString.prefix(8))
    let brokers = forms.map { TestBroker(settings: settings, vhost: "\($0)-\(id)") }
    func expected(_ vhost: Int, _ queue: Int) -> [String] {
      let first = vhost * 200 + queue * 100
      return (first..<(first + 2 + vhost + queue)).map(String.init)
    }
    for (vhost, broker) in brokers.enumerated() {
      try await broker.makeVHost()
      for (queue, name) in forms.enumerated() {
        try await broker.declare(name)
        let messages = expected(vhost, queue).enumerated().map { number, text in
          var properties = AMQPProperties()
          properties.messageID = forms[number % 2]
          return TestBroker.message(properties, ByteBuffer(string: text))
        }
        try await broker.publish(Array(messages.prefix(2)), to: name)
        // Further ones without an id.
        let more = messages.dropFirst(2).map { TestBroker.message(AMQPProperties(), $0.body) }
        if !more.isEmpty { try await broker.publish(more, to: name) }
      }
    }
    try await TestBroker.withRepository { repository, folder in
      var source = try brokers[0].source(RabbitMQQueueSelection(vhosts: brokers.map(\.vhost)))
      source.definitions?.vhosts = brokers.map(\.vhost)
      let manifest = try await TestBroker.backUp(source, to: repository)
      #expect(RabbitMQQueueRecord.all(of: manifest).count == 4)
      let reader = repository.reader(for: manifest)
      for broker in brokers { try await broker.removeVHost() }
      let definitions = RabbitMQDefinitionsRestorer(broker: settings, vhosts: brokers.map(\.vhost))
      let report = try await definitions.run(from: reader, logger: TestBroker.logger)
      #expect(!report.hasFailures && report.diff.entries(.add).count { $0.kind == .queues } == 4, "\(report)")
      for broker in brokers { try await broker.permit() }
      var restorer = brokers[0].restorer()
      restorer.queues.vhosts = brokers.map(\.vhost)
      restorer.leavesOutDuplicates = true
      restorer.journalFolder = folder
      _ = try await restorer.restore(from: reader, to: .latest, logger: TestBroker.logger)
      for (vhost, broker) in brokers.enumerated() {
        for (queue, name) in forms.enumerated() {
          #expect(try await broker.dump(name).map(\.text) == expected(vhost, queue))
        }
      }
    }
    for broker in brokers { try await broker.removeVHost() }
  }

  @Test("A queue named '..', for which the management API has no path, is dumped and restored with the others")
  func unspeakableNames() async throws {
    try await TestBroker.with { broker in
      let names = ["..", ".", "..."]
      for (number, name) in names.enumerated() {
        try await broker.declare(name)
        try await broker.publish(TestBroker.numbered(0..<(number + 3)), to: name)
      }
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        for name in names { try await broker.connected { try await $0.deleteQueue(name) } }
        for name in names { try await broker.declare(name) }
        _ = try await broker.restorer().restore(
          from: repository.reader(for: manifest), to: .latest, logger: TestBroker.logger)
        for (number, name) in names.enumerated() {
          #expect(try await broker.dump(name).map(\.text) == (0..<(number + 3)).map(String.init))
        }
      }
      await expectError {
        try await broker.api.get("queues/\(broker.vhost)/..")
      } matching: {
        ($0 as? DRError)?.code == .unsupported
      }
    }
  }
}
