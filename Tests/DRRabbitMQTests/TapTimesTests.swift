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

  @Test(
    "A tap that was made anew leaves a gap: verify and status say so, a restore does not go beyond it, a later backup covers it"
  )
  func tapMadeAnew() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.backUp()
      try await tapped.capture(tap, until: 10) { try await tapped.publish(0..<10) }
      #expect(try await tapped.check(manifest).allSatisfy { $0.severity == .passed })
      let before = Date()
      try await tap.removeTaps(logger: TestBroker.logger)
      try await tapped.publish(10..<20)
      try await tap.prepare(logger: TestBroker.logger)
      try await tapped.capture(tap, until: 20) { try await tapped.publish(20..<30) }
      for readsAll in [true, false] {
        let found = try await tapped.check(manifest, readsAll: readsAll)
        #expect(found.contains { $0.check == "tap-gap" && $0.severity == .failure }, "\(found)")
      }
      let status = await Self.logFindings(tapped.repository)
      #expect(status.contains { $0.check == "tap-gap" }, "\(status)")
      await expectError {
        try await tapped.restore(manifest)
      } matching: {
        ($0 as? DRError)?.code == .changeLogGap
      }
      #expect(try await tapped.broker.depth("orders") == 0)
      let (texts, outcome) = try await tapped.restore(manifest) { $0.overrides = [.tapGap] }
      #expect(texts == (Array(0..<10) + Array(20..<30)).map(String.init))
      #expect(outcome.findings.contains { $0.check == "tap-gap" })
      // Not beyond the end of the former one.
      let head = try #require(
        try await tapped.log().beginnings(RabbitMQTapLog.key(vhost: tapped.broker.vhost, queue: "orders")).last)
      #expect(head.end > 0 && head.end <= Int64(before.timeIntervalSince1970 * 1000))
      let end = Date(timeIntervalSince1970: Double(head.end) / 1000)
      let earlier = try await tapped.restore(manifest, to: .time(end))
      #expect(earlier.texts == (0..<10).map(String.init))
      let later = try await tapped.backUp()
      #expect(try await tapped.check(later).allSatisfy { $0.severity == .passed })
      #expect(await Self.logFindings(tapped.repository).isEmpty)
      _ = try await tapped.restore(later)
    }
  }

  @Test("A tap whose queue goes away makes it anew and says so; one that does not work when it is told to stop fails")
  func lostTapQueue() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap { $0.longestPause = .milliseconds(300) }
      let name = try #require(try await tap.prepare(logger: TestBroker.logger).first?.tap)
      let following = Task { try await tap.follow(logger: TestBroker.logger) { _ in } }
      try await tapped.publish(0..<10)
      try await TestBroker.eventually("it works") { try await tapped.captured() == 10 }
      let place = "queues/\(tapped.broker.vhost)/\(name)"
      try await tapped.broker.api.delete(place)
      try await TestBroker.eventually("it is made anew") { try await tapped.broker.api.find(place) != nil }
      let key = RabbitMQTapLog.key(vhost: tapped.broker.vhost, queue: "orders")
      try await TestBroker.eventually("it is noted") { try await tapped.log().beginnings(key).count == 2 }
      try await tapped.publish(10..<20)
      try await TestBroker.eventually("it works again") { try await tapped.captured() == 20 }
      // Now it cannot be made anew.
      try await tapped.broker.api.delete("queues/\(tapped.broker.vhost)/orders")
      try await tapped.broker.api.delete(place)
      try await Task.sleep(for: .seconds(3))
      following.cancel()
      await expectError {
        try await following.value
      } matching: {
        "\($0)".contains("did not work when it was told to stop")
      }
    }
  }

  @Test("A target beyond what the tap has stored is said, and where a tap ended early")
  func reachOfTheTap() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.backUp()
      try await tapped.capture(tap, until: 10) { try await tapped.publish(0..<10) }
      let beyond = try await tapped.restore(manifest, to: .time(Date().addingTimeInterval(60)))
      #expect(beyond.texts == (0..<10).map(String.init))
      #expect(
        beyond.outcome.findings.contains {
          $0.severity == .failure && $0.evidence.contains("the tap of \(tapped.broker.vhost)/orders reaches only to")
        }, "\(beyond.outcome.findings)")
      let latest = try await tapped.restore(manifest)
      #expect(latest.outcome.findings.isEmpty)
      try await Task.sleep(for: .seconds(16))
      let ended = try await tapped.restore(manifest)
      #expect(ended.outcome.findings.map(\.severity) == [.notice] && ended.outcome.findings[0].check == "tap-reach")
    }
  }

  @Test("A note that is gone, and a whole log that is gone, are found")
  func lostNotes() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      try await tapped.capture(tap, until: 10) { try await tapped.publish(0..<10) }
      var source = try tapped.broker.source(
        RabbitMQQueueSelection(vhosts: [tapped.broker.vhost], patterns: ["orders"]))
      source.tier = tapped.repository.tier
      let manifest = try await TestBroker.backUp(source, to: tapped.repository)
      #expect(try await tapped.check(manifest).allSatisfy { $0.severity == .passed })
      let tier = tapped.repository.tier
      let log = try await tier.listAll(prefix: "rabbitmq/").filter { $0.key.rawValue.contains("/messages/") }
      for object in log where TapSequence.Head(String(object.key.lastComponent.prefix { $0 != "." })) != nil {
        try await tier.delete(object.key)
      }
      let found = try await tapped.check(manifest)
      #expect(found.contains { $0.check == "tap-head" && $0.severity == .failure }, "\(found)")
      #expect(await Self.logFindings(tapped.repository).contains { $0.check == "tap-head" })
      let (texts, outcome) = try await tapped.restore(manifest)
      #expect(texts == (0..<10).map(String.init))
      #expect(outcome.findings.contains { $0.check == "tap-head" && $0.severity == .warning })
      for object in log { try await tier.delete(object.key) }
      let lost = try await tapped.check(manifest)
      #expect(lost.contains { $0.severity == .failure && $0.evidence.contains("says that a tap was there") }, "\(lost)")
      await expectError {
        try await tapped.restore(manifest)
      } matching: {
        ($0 as? DRError)?.code == .changeLogGap
      }
      _ = try await tapped.restore(manifest) { $0.overrides = [.tapGap] }
    }
  }

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
      // A tap of this version goes on from them; its queue is a new one here, and what came before that is in no tap.
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      try await tapped.capture(tap, until: 40) { try await tapped.publish(40..<50) }
      #expect(try await tapped.check(manifest).contains { $0.check == "tap-gap" && $0.severity == .failure })
      let all = try await tapped.restore(manifest) { $0.overrides = [.tapGap] }
      #expect(all.texts == (0..<50).map(String.init))
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
