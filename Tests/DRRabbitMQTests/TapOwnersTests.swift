import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Whose a tap is: names, two of one name, and those of others.
extension RabbitMQTests {
  @Test("A name or a pattern that is nowhere is an error, also beside one that is somewhere")
  func unknownNames() async throws {
    try await Self.withTap { tapped in
      let selection = RabbitMQQueueSelection(vhosts: [tapped.broker.vhost], patterns: ["orders", "nosuch*"])
      await expectError {
        try await TestBroker.backUp(tapped.broker.source(selection), to: tapped.repository)
      } matching: {
        ($0 as? DRError)?.code == .invalidConfiguration && "\($0)".contains("nosuch*")
      }
      let tap = try RabbitMQTap(
        component: tapped.component, broker: tapped.broker.settings, queues: selection, tier: tapped.repository.tier,
        logger: TestBroker.logger)
      await expectError {
        try await tap.prepare(logger: TestBroker.logger)
      } matching: {
        ($0 as? DRError)?.code == .invalidConfiguration && "\($0)".contains("nosuch*")
      }
      let taps = (try await tapped.broker.api.get("queues/\(tapped.broker.vhost)").array ?? []).count
      #expect(taps == 1)
      let manifest = try await tapped.backUp()
      var definitions = RabbitMQDefinitionsRestorer(broker: tapped.broker.settings, vhosts: [tapped.broker.vhost])
      definitions.queues = selection
      let restorer = definitions
      await expectError {
        try await restorer.run(from: tapped.repository.reader(for: manifest), logger: TestBroker.logger)
      } matching: {
        ($0 as? DRError)?.code == .invalidConfiguration && "\($0)".contains("nosuch*")
      }
    }
  }

  @Test("A second tap of one name is refused while the first works, and takes over when that was killed")
  func secondTap() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap { $0.leaseLife = .seconds(2) }
      try await tap.prepare(logger: TestBroker.logger)
      let first = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
      try await tapped.publish(0..<10)
      try await TestBroker.eventually("the first works") { try await tapped.captured() == 10 }
      await expectError {
        try await tap.follow(logger: TestBroker.logger) { _ in }
      } matching: {
        ($0 as? DRError)?.code == .leaseHeld
      }
      first.cancel()
      _ = await first.result
      // One that was killed leaves a lease that nobody renews.
      let leases = try await tapped.repository.tier.listAll(prefix: "leases/")
      let last = try #require(leases.map(\.key).max())
      let text = try await tapped.repository.tier.read(last, limit: 4096)
      let held = String(buffer: text).replacing("\"released\" : true", with: "\"released\" : false")
      try #require(held != String(buffer: text))
      _ = try await tapped.repository.tier.put(last, ByteStream(ByteBuffer(string: held)), PutOptions())
      let start = ContinuousClock.now
      try await tapped.capture(tap, until: 20) { try await tapped.publish(10..<20) }
      #expect(start.duration(to: .now) > .seconds(2))
    }
  }

  @Test("Where two taps stored one segment, the tap goes on, and a restore has all of both")
  func conflictingSegments() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.backUp()
      try await tapped.capture(tap, until: 10) { try await tapped.publish(0..<10) }
      let key = RabbitMQTapLog.key(vhost: tapped.broker.vhost, queue: "orders")
      let log = try await tapped.log()
      let count = try #require(try await log.stored(key).last?.number)
      for text in ["one", "other"] {
        let header = MessageArchive.Header(
          vhost: tapped.broker.vhost, queue: "orders", type: "tap", durable: true, arguments: [:], broker: nil,
          brokerVersion: nil, captured: Timestamp.format(Date()))
        var writer = try MessageArchiveWriter(header, into: ByteBuffer(), recordsArrivals: true)
        let now = Int64(Date().timeIntervalSince1970 * 1000) + 5000
        writer.arrival = now...now
        try writer.add(
          TestBroker.message(AMQPProperties(), ByteBuffer(string: text)), exchange: "sales", routingKey: "")
        try writer.finish()
        do {
          try await log.put(key, count + 1, writer.buffer)
          #expect(text == "one")
        } catch let error as DRError where error.code == .segmentConflict {
          #expect(text == "other")
          // As two that store at the same moment leave it.
          _ = try await log.store.put(
            "\(key)-\(String(repeating: "0", count: 12 - "\(count + 1)".count))\(count + 1)", writer.buffer)
        }
      }
      try await tapped.capture(tap, until: 22) { try await tapped.publish(10..<20) }
      let (texts, outcome) = try await tapped.restore(manifest)
      #expect(Set(texts) == Set((0..<20).map(String.init) + ["one", "other"]))
      #expect(outcome.findings.contains { $0.check == "tap-conflict" && $0.severity == .warning })
      #expect(try await tapped.check(manifest).allSatisfy { $0.severity != .failure })
    }
  }

  @Test("Taps of other configurations and other queues stay, and are not taken for one's own")
  func ownersOfTaps() async throws {
    try await Self.withTap { tapped in
      try await tapped.broker.declare("invoices")
      try await tapped.broker.connected { try await $0.bind(queue: "invoices", to: "sales") }
      func tap(_ queue: String?, _ name: String, _ component: String = "test") throws -> RabbitMQTap {
        try RabbitMQTap(
          component: Component(.rabbitmq, component), broker: tapped.broker.settings,
          queues: RabbitMQQueueSelection(vhosts: [tapped.broker.vhost], patterns: queue.map { [$0] }),
          tier: tapped.repository.tier, options: RabbitMQTap.Options(name: name), logger: TestBroker.logger)
      }
      for queue in ["orders", "invoices"] { try await tap(queue, "a").prepare(logger: TestBroker.logger) }
      // Another configuration may not take from it, nor another tap write the same log.
      for (name, component) in [("a", "other"), ("b", "test")] {
        await expectError {
          try await tap("orders", name, component).prepare(logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .invalidConfiguration
        }
      }
      try await tap("orders", "c", "other").prepare(logger: TestBroker.logger)
      #expect(try await tap("orders", "a", "other").removeTaps(logger: TestBroker.logger) == 0)
      #expect(try await tap(nil, "a", "other").otherOwners().count == 1)
      #expect(try await tap("orders", "a").removeTaps(logger: TestBroker.logger) == 1)
      #expect(try await tap("orders", "a").removeTaps(logger: TestBroker.logger) == 0)
      // The queue is gone, and its tap is not.
      try await tapped.broker.api.delete("queues/\(tapped.broker.vhost)/invoices")
      #expect(try await tap("invoices", "a").removeTaps(logger: TestBroker.logger) == 1)
      #expect(try await tap(nil, "c").removeTaps(logger: TestBroker.logger) == 0)
      #expect(try await tap(nil, "c").removeTaps(ofOthers: true, logger: TestBroker.logger) == 1)
      await expectError {
        try await tap("nosuch", "a").prepare(logger: TestBroker.logger)
      } matching: {
        ($0 as? DRError)?.code == .invalidConfiguration
      }
    }
  }
}
