import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// When messages came to a tap: what decides up to which moment a restore brings them.
extension RabbitMQTests {
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
}
