import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Where a dump and a tap meet: each message once, also where another one is equal to it.
extension RabbitMQTests {
  @Test(
    "A dump in the midst of what is published, without message-ids: each message once, and at most the equal ones twice",
    arguments: ["classic", "quorum"])
  func seam(type: String) async throws {
    try await Self.withTap(type) { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.capture(tap, until: 3000) {
        let publishing = Task {
          for start in stride(from: 0, to: 3000, by: 100) {
            try await tapped.publish(start..<(start + 100))
            try await Task.sleep(for: .milliseconds(20))
          }
        }
        try await Task.sleep(for: .milliseconds(300))
        let manifest = try await tapped.backUp()
        try await publishing.value
        return manifest
      }
      let dumped = try #require(RabbitMQQueueRecord.all(of: manifest).first).summary.messages
      #expect(dumped > 0 && dumped < 3000)
      let (texts, outcome) = try await tapped.restore(manifest)
      #expect(texts == (0..<3000).map(String.init))
      #expect(outcome.fromTap == 3000 - dumped && outcome.mayBeInDump == 0)
    }
  }

  @Test(
    "Equal messages around a dump come once where the tap had all since the queue was empty, and what was consumed comes again: it is said how many at most"
  )
  func equalMessages() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.capture(tap, until: 40) {
        try await tapped.publish(100..<105)
        try await tapped.broker.api.delete("queues/\(tapped.broker.vhost)/orders/contents")
        try await TestBroker.eventually("they are consumed") { try await tapped.broker.depth("orders") == 0 }
        try await tapped.publish(0..<20)
        let same = (0..<10).map { _ in TestBroker.message(AMQPProperties(), ByteBuffer(string: "same")) }
        try await tapped.broker.publish(same, to: "", exchange: "sales")
        let manifest = try await tapped.backUp()
        try await Task.sleep(for: .milliseconds(20))
        try await tapped.publish(20..<25)
        return manifest
      }
      // As if clocks could differ by so much.
      let (texts, outcome) = try await tapped.restore(manifest) { $0.seamMargin = .seconds(60) }
      let numbers = (Array(0..<20) + Array(100..<105) + Array(20..<25)).map(String.init)
      #expect(texts.filter { $0 != "same" } == numbers)
      #expect(texts.count { $0 == "same" } == 10 && outcome.mayBeInDump == 0)
      #expect(outcome.aroundDump == 5)
    }
  }

  @Test("What was published after a dump comes back, also where an equal message is in it that came long before")
  func equalMessagesAfterwards() async throws {
    try await Self.withTap { tapped in
      func publish(_ texts: [String]) async throws {
        try await tapped.broker.publish(
          texts.map { TestBroker.message(AMQPProperties(), ByteBuffer(string: $0)) }, to: "", exchange: "sales")
      }
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.capture(tap, until: 9) {
        try await publish(["A1", "A2", "B", "C", "D"])
        try await Task.sleep(for: .seconds(5))
        let manifest = try await tapped.backUp()
        for (text, pause) in [("A1", 500), ("A2", 1000), ("B", 1300), ("C", 0)] {
          try await publish([text])
          try await Task.sleep(for: .milliseconds(pause))
        }
        return manifest
      }
      let (texts, outcome) = try await tapped.restore(manifest)
      #expect(texts == ["A1", "A2", "B", "C", "D", "A1", "A2", "B", "C"])
      #expect(outcome.fromTap == 4)
    }
  }

  @Test(
    "Of messages that were there before the tap none stands for an equal one that came after the dump: at most so many are twice"
  )
  func equalMessagesBeforeTheTap() async throws {
    try await Self.withTap { tapped in
      try await tapped.publish(0..<3)
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.capture(tap, until: 2) {
        try await Task.sleep(for: .milliseconds(500))
        let manifest = try await tapped.backUp()
        try await tapped.publish(1..<3)
        return manifest
      }
      let (texts, outcome) = try await tapped.restore(manifest)
      #expect(texts == ["0", "1", "2", "1", "2"])
      #expect(outcome.fromTap == 2 && outcome.mayBeInDump == 2)
    }
  }
}
