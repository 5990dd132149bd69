import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// When messages came to a tap, and where a dump and a tap meet.
extension RabbitMQTests {
  /// A queue that is bound, and a tap of it that runs.
  private struct Tapped {
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

  private static func withTap(_ type: String = "classic", _ body: (Tapped) async throws -> Void) async throws {
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

  @Test(
    "What the application says of time decides nothing: old timestamps, none, and milliseconds come back, up to the moment at which the tap saw them"
  )
  func applicationTimes() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      /// Of long ago, of far ahead, in milliseconds, none.
      func lie(_ number: Int, _ properties: inout AMQPProperties) {
        let times: [UInt64?] = [1, 4_000_000_000, 1_764_000_000_000, nil]
        properties.timestamp = times[number % 4]
        if number % 8 < 4 { properties.headers = ["timestamp_in_ms": .int64(Int64(number % 3) * 4_000_000_000_000)] }
      }
      let (manifest, moment) = try await tapped.capture(tap, until: 120) {
        try await tapped.publish(0..<40, lie)
        // Longer ago than what is compared with the dump.
        try await Task.sleep(for: .milliseconds(2500))
        let manifest = try await tapped.backUp()
        try await Task.sleep(for: .milliseconds(2500))
        try await tapped.publish(40..<80, lie)
        try await Task.sleep(for: .milliseconds(50))
        let moment = Date()
        try await Task.sleep(for: .milliseconds(50))
        try await tapped.publish(80..<120, lie)
        return (manifest, moment)
      }
      let latest = try await tapped.restore(manifest)
      #expect(latest.texts == (0..<120).map(String.init))
      #expect(latest.outcome.fromTap == 80 && latest.outcome.aroundDump == 0 && latest.outcome.mayBeInDump == 0)
      let earlier = try await tapped.restore(manifest, to: .time(moment))
      #expect(earlier.texts == (0..<80).map(String.init))
      #expect(earlier.outcome.afterTarget == 40 && earlier.outcome.mayBeAfterTarget == 0)
      await expectError {
        try await tapped.restore(manifest, to: .time(manifest.recoveryPoint.time.addingTimeInterval(-60)))
      } matching: {
        ($0 as? DRError)?.code == .targetUnreachable
      }
    }
  }

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
    "Around a dump equal messages come back rather twice than not at all, and what was consumed comes again: it is said how many at most"
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
      #expect(texts.count { $0 == "same" } == 20 && outcome.mayBeInDump == 10)
      #expect(outcome.aroundDump == 5)
    }
  }

  @Test("What waited for a tap that did not run is restored if it may have come in time, and counted")
  func waitedForTheTap() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      try await tapped.capture(tap, until: 10) { try await tapped.publish(0..<10) }
      let manifest = try await tapped.backUp()
      try await Task.sleep(for: .milliseconds(2500))
      try await tapped.publish(10..<20)
      try await Task.sleep(for: .milliseconds(50))
      let moment = Date()
      try await Task.sleep(for: .milliseconds(50))
      try await tapped.publish(20..<30)
      // Nobody heard when these came.
      try await tapped.capture(tap, until: 30) {}
      let (texts, outcome) = try await tapped.restore(manifest, to: .time(moment))
      #expect(texts == (0..<30).map(String.init))
      #expect(outcome.mayBeAfterTarget == 20)
    }
  }

  @Test(
    "Segments of an earlier version are read: the times of their messages are those of their bounds, and it is said")
  func segmentsWithoutTimes() async throws {
    try await Self.withTap { tapped in
      try await tapped.publish(0..<10)
      let manifest = try await tapped.backUp()
      let log = try await tapped.log()
      let key = RabbitMQTapLog.key(vhost: tapped.broker.vhost, queue: "orders")
      let start = Date().addingTimeInterval(10)
      for number in 1...3 {
        let header = MessageArchive.Header(
          vhost: tapped.broker.vhost, queue: "orders", type: "tap", durable: true, arguments: [:], broker: nil,
          brokerVersion: nil, captured: Timestamp.format(start.addingTimeInterval(Double(number) * 10)))
        var writer = try MessageArchiveWriter(header, into: ByteBuffer())
        for message in TestBroker.numbered((number * 10)..<(number * 10 + 10)) {
          try writer.add(message, exchange: "sales", routingKey: "")
        }
        try writer.finish()
        _ = try await log.store.put("\(key)-00000000000\(number)", writer.buffer)
      }
      let (texts, outcome) = try await tapped.restore(manifest, to: .time(start.addingTimeInterval(25)))
      #expect(texts == (0..<30).map(String.init))
      #expect(outcome.afterTarget == 10 && outcome.mayBeAfterTarget == 10)
      #expect(outcome.findings.contains { $0.check == "tap-times" && $0.evidence.hasPrefix("30 messages") })
      // A tap of this version goes on from them.
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      try await tapped.capture(tap, until: 40) { try await tapped.publish(40..<50) }
      let all = try await tapped.restore(manifest)
      #expect(all.texts == (0..<50).map(String.init))
      #expect(try await tapped.check(manifest).allSatisfy { $0.severity != .failure })
    }
  }

  // MARK: What is missing

  @Test(
    "A segment of a tap that is missing is found by its name and by a restore: the first, one in the midst, the last")
  func missingSegments() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.backUp()
      try await tapped.capture(tap, until: 60) {
        for part in 0..<6 {
          try await tapped.publish((part * 10)..<(part * 10 + 10))
          try await Task.sleep(for: .milliseconds(500))
        }
      }
      let key = RabbitMQTapLog.key(vhost: tapped.broker.vhost, queue: "orders")
      let log = try await tapped.log()
      let stored = try await log.stored(key)
      try #require(stored.count >= 4)
      let whole = try await tapped.check(manifest)
      #expect(whole.count == 1 && whole.first?.severity == .passed, "\(whole)")
      #expect(await Self.logFindings(tapped.repository).isEmpty)
      for lost in [0, 1, stored.count - 1] {
        let object = stored[lost].info.key
        let bytes = try await tapped.repository.tier.read(object, limit: 1 << 20)
        try await tapped.repository.tier.delete(object)
        for readsAll in [true, false] {
          let found = try await tapped.check(manifest, readsAll: readsAll)
          #expect(
            found.contains { $0.severity == .failure && $0.evidence.hasPrefix("segment \(lost + 1) of the tap") },
            "\(found)")
        }
        let status = await Self.logFindings(tapped.repository)
        #expect(status.count == 1 && status.first?.evidence.contains("segment \(lost + 1)") == true, "\(status)")
        await expectError {
          try await tapped.restore(manifest)
        } matching: {
          ($0 as? DRError)?.code == .changeLogGap
        }
        #expect(try await tapped.broker.depth("orders") == 0)
        let (texts, outcome) = try await tapped.restore(manifest) { $0.overrides = [.tapGap] }
        #expect(texts.count < 60 && outcome.findings.contains { $0.severity == .failure })
        _ = try await tapped.repository.tier.put(object, ByteStream(bytes), PutOptions())
      }
      // Another one in its place.
      let second = stored[1]
      try await tapped.repository.tier.delete(second.info.key)
      let other = try await log.get(stored[2])
      _ = try await log.store.put(second.info.name, other)
      let replaced = try await tapped.check(manifest)
      #expect(
        replaced.contains { $0.severity == .failure && $0.evidence.contains("is not the one after which") },
        "\(replaced)")
    }
  }

  private static func logFindings(_ repository: Repository) async -> [Finding] {
    await ReplicationStatus.of([repository]).findings(lag: .seconds(3600), now: Date())
  }

  @Test("What retention has removed of a tap is not missed")
  func prunedSegments() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.capture(tap, until: 30) {
        try await tapped.publish(0..<10)
        try await Task.sleep(for: .milliseconds(600))
        try await tapped.publish(10..<20)
        try await Task.sleep(for: .milliseconds(600))
        let manifest = try await tapped.backUp()
        try await tapped.publish(20..<30)
        return manifest
      }
      let key = RabbitMQTapLog.key(vhost: tapped.broker.vhost, queue: "orders")
      let first = try #require(try await tapped.log().stored(key).first)
      try await tapped.repository.tier.delete(first.info.key)
      // As in a copy that was made while the tap went on.
      try await tapped.log().note(RabbitMQTapLog.State(acknowledged: 99), of: key)
      let findings = try await tapped.check(manifest)
      #expect(findings.allSatisfy { $0.severity == .passed }, "\(findings)")
    }
  }

  // MARK: Two taps

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
