import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import Logging
import Testing

/// What consumers hold is told by statistics that are some seconds old.
struct HeldMessagesTests {
  private static func judge(
    _ ready: Int64, consumers: Int64, told: (ready: Int64, held: Int64), isSettled: Bool
  ) throws -> HeldMessages? {
    var queue = try #require(RabbitMQQueue(["vhost": "/", "name": "q"]))
    (queue.ready, queue.unacknowledged) = told
    return HeldMessages.judge(ready: ready, consumers: consumers, told: queue, isSettled: isSettled)
  }

  @Test("Statistics are believed when the queue itself agrees with them, or once they are of now; else it is said")
  func judge() throws {
    // A consumer took 123, and they do not tell of it yet.
    #expect(try Self.judge(377, consumers: 1, told: (500, 0), isSettled: false) == nil)
    #expect(try Self.judge(377, consumers: 1, told: (377, 123), isSettled: false) == nil)
    #expect(try Self.judge(377, consumers: 1, told: (377, 123), isSettled: true) == HeldMessages(123, isCurrent: true))
    // They never tell: so many at most.
    #expect(try Self.judge(377, consumers: 1, told: (500, 0), isSettled: true) == HeldMessages(123, isCurrent: false))
    // Taken without a consumer.
    #expect(try Self.judge(377, consumers: 0, told: (500, 0), isSettled: false) == nil)
    // Nobody is there.
    #expect(try Self.judge(500, consumers: 0, told: (500, 0), isSettled: false) == HeldMessages(0, isCurrent: true))
    #expect(try Self.judge(500, consumers: 0, told: (0, 0), isSettled: false) == HeldMessages(0, isCurrent: true))
    // What they tell of was given back since.
    #expect(try Self.judge(500, consumers: 0, told: (0, 500), isSettled: false) == HeldMessages(0, isCurrent: true))
    #expect(try Self.judge(0, consumers: 0, told: (0, 10), isSettled: false) == nil)
  }
}

extension RabbitMQTests {
  @Test(
    "Messages that a consumer took just before a backup are said to be left out, before the statistics tell of them",
    arguments: ["classic", "quorum"])
  func takenJustBefore(type: String) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("busy", type)
      try await broker.publish(TestBroker.numbered(0..<500), to: "busy")
      try await TestBroker.eventually("the statistics tell of all") { try await broker.find("busy").ready == 500 }
      let consumer = try await AMQPConnection.connect(broker.settings, vhost: broker.vhost, logger: TestBroker.logger)
      try await consumer.setPrefetch(123)
      try await consumer.consume("busy", tag: "app")
      try await TestBroker.eventually("they are taken") { try await broker.depth("busy") == 377 }
      try #require(try await broker.find("busy").unacknowledged == 0)
      try await TestBroker.withRepository { repository, _ in
        let lines = MutableBox<[String]>([])
        let logger = Logger(label: "test", factory: { _ in WarningLog(lines: lines) })
        let manifest = try await repository.backUp(
          try broker.source(), cadence: .daily, encoding: Encoding(), logger: logger)
        let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
        #expect(record.summary.messages == 377 && record.unacknowledged == 123 && record.consumers == 1)
        let warned = lines.value.filter { $0.contains("is given to them as redelivered, and not always in order") }
        #expect(warned.count == 1 && warned[0].contains("rabbitmq.consumers"), "\(lines.value)")
        #expect(manifest.leftOut.map(\.what) == ["123 messages of \(broker.vhost)/busy"], "\(manifest.leftOut)")
      }
      await consumer.abort()
    }
  }
}

/// Keeps what is warned of.
private struct WarningLog: LogHandler {
  let lines: MutableBox<[String]>
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.warning

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    lines.withLock { $0.append("\(event.message) \(event.metadata ?? [:])") }
  }
}
