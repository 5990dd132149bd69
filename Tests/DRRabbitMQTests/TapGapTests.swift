import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What is missing of a tap is found: segments, notes, the time between two of its queues.
extension RabbitMQTests {
  @Test(
    "A tap that was made anew leaves a gap: verify and status say so, a restore does not go beyond it, a later backup covers it"
  )
  func tapMadeAnew() async throws {
    try await Self.withTap { tapped in
      let tap = try tapped.tap()
      try await tap.prepare(logger: TestBroker.logger)
      let manifest = try await tapped.backUp()
      try await tapped.capture(tap, until: 10) { try await tapped.publish(0..<10) }
      // A connection that a busy machine lost, and what came twice for it, is a notice.
      let whole = try await tapped.check(manifest)
      #expect(whole.allSatisfy { $0.severity <= .notice } && whole.contains { $0.severity == .passed }, "\(whole)")
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
      let covered = try await tapped.check(later)
      #expect(covered.allSatisfy { $0.severity <= .notice }, "\(covered)")
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
        #expect(texts.count < 60)
        #expect(
          outcome.findings.contains { $0.severity == .warning && $0.evidence.hasSuffix("(overridden: tap-gap)") },
          "\(outcome.findings)")
        #expect(!outcome.findings.contains { $0.severity == .failure })
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
}
