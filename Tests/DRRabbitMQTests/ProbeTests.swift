import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

extension RabbitMQTests {
  @Test("Probes pass on a broker that is as its backup says, and name what is not")
  func probes() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders")
      try await broker.declare("votes", "quorum")
      try await broker.declare(
        "giving", "classic",
        ["x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("orders")])
      try await broker.publish(TestBroker.numbered(0..<20), to: "orders")
      try await broker.publish(TestBroker.numbered(0..<5), to: "votes")
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        // Other tests' vhosts come and go: the whole broker is another test's business.
        func look(_ probes: [RabbitMQProbes.Probe]) async throws -> [Finding] {
          try await RabbitMQProbes(broker.settings, manifest: manifest, probes: probes, vhost: broker.vhost)
            .verify(logger: TestBroker.logger)
        }
        let good = try await look([.connectivity, .alarms, .cluster, .queues, .depths, .roundTrip])
        #expect(good.allSatisfy { $0.severity == .passed } && good.count == 6, "\(good)")
        let bindings = try await look([.bindings, .consumers])
        #expect(bindings.allSatisfy { [.notice, .notChecked].contains($0.severity) }, "\(bindings)")

        try await broker.api.delete("queues/\(broker.vhost)/votes")
        try await broker.publish(TestBroker.numbered(20..<21), to: "orders")
        let bad = try await look([.queues, .depths])
        #expect(bad.contains { $0.severity == .failure && $0.check == "queues" && $0.subject.hasSuffix("/votes") })
        #expect(
          bad.contains {
            $0.severity == .failure && $0.check == "depths" && $0.evidence == "21 messages, and the backup has 20"
          })
        // A dead-letter route that leads nowhere.
        try await broker.declare("lost", "classic", ["x-dead-letter-exchange": .string("not-there")])
        try await TestBroker.eventually("the broker lists it") {
          try await look([.deadLetters]).contains {
            $0.severity == .failure && $0.subject == "\(broker.vhost)/lost" && $0.evidence.contains("not-there")
          }
        }
        var settings = broker.settings
        settings.port = 1
        let unseen = try await RabbitMQProbes(settings, probes: [.connectivity]).verify(logger: TestBroker.logger)
        #expect(unseen.map(\.severity) == [.failure] && unseen[0].evidence.contains("could not be looked at"))
      }
    }
  }
}
