import DRCore
import DRRabbitMQ
import DRStorage
import Foundation
import NIOCore
import Testing

/// Messages whose time ends while a dump reads them.
extension RabbitMQTests {
  @Test(
    "What a dump holds does not expire under it, and expires when it is back: no copy and no message more",
    arguments: ["classic", "quorum"])
  func heldMessagesDoNotExpire(type: String) async throws {
    try await TestBroker.with { broker in
      try await broker.declare("dead")
      try await broker.declare(
        "short-lived", type,
        [
          "x-message-ttl": .int32(3000), "x-dead-letter-exchange": .string(""),
          "x-dead-letter-routing-key": .string("dead"),
        ])
      let count = 3000
      try await broker.publish(TestBroker.numbered(0..<count, size: 1024), to: "short-lived", window: 2000)
      let dump = try await QueueDump.begin(
        broker.find("short-lived"), broker: broker.settings, brokerVersion: nil, logger: TestBroker.logger)
      #expect(dump.ready == count && dump.mayExpire)
      let frames = MutableBox(0)
      var numbers: [Int?] = []
      let slow = ByteStream {
        let frame = try await dump.next()
        let number = frames.withLock { frames in
          frames += 1
          return frames
        }
        // All of them are over their time by then.
        if number == 1 { try await Task.sleep(for: .seconds(4)) }
        return frame
      }
      try await MessageArchiveReader.read(slow, object: "short-lived") { event in
        if case .message(let message) = event { numbers.append(Int(message.text.prefix { $0 != "." })) }
      }
      #expect(frames.value > 2)
      let all = (0..<count).map { $0 }
      #expect(numbers == all)
      await dump.end()
      // As they would have without the dump, each once.
      try await TestBroker.eventually("they expire") { try await broker.depth("short-lived") == 0 }
      try await TestBroker.eventually("they are dead-lettered") { try await broker.depth("dead") >= count }
      #expect(try await broker.depth("dead") == count)
    }
  }

  @Test(
    "Messages that expire before they could be read are left out and counted, where what was read shows that messages expire"
  )
  func expiredBeforeTheyWereRead() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("retries")
      // Those that expire stand behind others: the broker drops them when they come to be first.
      try await broker.publish(
        TestBroker.numbered(0..<12) { number, properties in
          if number >= 7 { properties.expiration = number < 11 ? "1" : "600000" }
        }, to: "retries")
      try await Task.sleep(for: .milliseconds(50))
      #expect(try await broker.depth("retries") == 12)
      try await TestBroker.withRepository { repository, _ in
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
        #expect(record.summary.messages == 8 && record.readyBefore == 12 && record.readyAfter == 8)
        #expect(manifest.leftOut.contains { $0.what.contains("4 messages") && $0.reason.contains("expired") })
      }
    }
  }

  @Test(
    "Fewer messages read than were ready, and nothing that tells why, is an error; the next backup has what is there")
  func partialRead() async throws {
    try await TestBroker.with { broker in
      try await broker.declare("orders")
      // None of those that expire is ever read: to the reader they are gone without a reason.
      try await broker.publish(
        TestBroker.numbered(0..<12) { number, properties in if number >= 7 { properties.expiration = "1" } },
        to: "orders")
      try await Task.sleep(for: .milliseconds(50))
      try await TestBroker.withRepository { repository, _ in
        await expectError {
          try await TestBroker.backUp(broker.source(), to: repository)
        } matching: {
          ($0 as? DRError)?.code == .sourceFailed && "\($0)".contains("12 messages were ready and 7 could be read")
        }
        let none = try await repository.catalog(of: Component(.rabbitmq, "test")).backups
        #expect(none.isEmpty)
        let manifest = try await TestBroker.backUp(broker.source(), to: repository)
        let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
        #expect(record.summary.messages == 7 && record.readyBefore == 7 && record.readyAfter == 7)
        #expect(!manifest.leftOut.contains { $0.what.contains("messages of") })
      }
    }
  }
}
