import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// A quorum queue whose leader does not answer: the broker says over AMQP that it holds nothing.
extension RabbitMQTests {
  @Test(
    "A quorum queue whose leader does not answer is not taken for an empty one, neither before a dump nor within it")
  func silentLeader() async throws {
    try await TestBroker.with { whole in
      try await whole.declare("votes", "quorum")
      try await whole.publish(TestBroker.numbered(0..<200), to: "votes")
      var settings = whole.settings
      settings.timeLimit = .seconds(4)
      let broker = TestBroker(settings: settings, vhost: whole.vhost)
      try await TestBroker.withRepository { repository, _ in
        try await Self.silencing("votes", of: broker) {
          // What a plain client hears.
          let said = try await broker.depth("votes")
          #expect(said == 0)
          await expectError {
            try await broker.connected { try await $0.depth(of: "votes", .quorum) }
          } matching: {
            ($0 as? DRError)?.code == .timedOut && "\($0)".contains("does not say how many messages")
          }
          await expectError {
            try await TestBroker.backUp(broker.source(), to: repository)
          } matching: {
            $0 is DRError
          }
        }
        let component = try Component(.rabbitmq, "test")
        let none = try await repository.catalog(of: component).backups
        #expect(none.isEmpty)

        // The leader falls silent after the preflight has heard it.
        let dump = try await QueueDump.begin(
          broker.find("votes"), broker: settings, brokerVersion: nil, logger: TestBroker.logger)
        #expect(dump.ready == 200)
        try await Self.silencing("votes", of: broker) {
          await expectError {
            for try await _ in dump.stream {}
          } matching: {
            $0 is DRError
          }
        }

        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        #expect(RabbitMQQueueRecord.all(of: manifest).map(\.summary.messages) == [200])
      }
      try await TestBroker.eventually("everything is back") { try await broker.depth("votes") == 200 }
      let texts = try await broker.dump("votes").map(\.text)
      #expect(texts == (0..<200).map(String.init))
    }
  }

  /// Keeps the process that leads a queue from answering while the body runs.
  private static func silencing(
    _ queue: String, of broker: TestBroker, _ body: () async throws -> Void
  ) async throws {
    let sandbox = try #require(TestBroker.current)
    func tell(_ function: String) async throws {
      let result = try await sandbox.run("rabbitmqctl", ["eval", "sys:\(function)('\(broker.vhost)_\(queue)')."])
      try #require(result.status == 0, "\(result)")
    }
    try await tell("suspend")
    do {
      try await body()
    } catch {
      try await tell("resume")
      throw error
    }
    try await tell("resume")
  }
}
