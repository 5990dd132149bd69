import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// A restore with a tap that was killed goes on: its journal counts what is published, whatever of the tap is left out.
extension RabbitMQTests {
  @Test(
    "A restore with a tap that is killed again and again repeats nothing where the queue tells",
    arguments: [("classic", 8, 40_000), ("quorum", 4, 30_000)])
  func killedRestoreWithTap(type: String, kills: Int, count: Int) async throws {
    try await Self.withTap(type) { tapped in
      try await Self.withKilledRestore(tapped, count: count, { $0.overrides = [.tapGap] }) { restore in
        var random = TestData.Random(seed: 7)
        for _ in 0..<kills {
          let due = try restore.journalLines + Int.random(in: 1...2, using: &random)
          let moment = Duration.milliseconds(Int.random(in: 0...20, using: &random))
          try await restore.kill(when: "more was confirmed") {
            guard try restore.journalLines >= due else { return false }
            try await Task.sleep(for: moment)
            return true
          }
        }
        try await restore.run()
        let outcome = try #require(restore.outcomes.last)
        #expect(outcome.resumedFrom > Int64(Self.dumped) && outcome.mayBeRepeated == 0)
        #expect(outcome.depth == Int64(count))
      }
      let numbers = try await tapped.broker.numbers("orders")
      #expect(numbers.count == count)
      #expect(numbers == (0..<count).map { $0 })
    }
  }

  @Test(
    "Where the queue cannot tell, a restore with a tap says how many may be there twice; with other messages none goes on"
  )
  func resumedTapSaysWhatItRepeats() async throws {
    try await Self.withTap { tapped in
      let count = 20_000
      func settings(_ restorer: inout RabbitMQMessageRestorer) {
        restorer.window = 200
        restorer.overrides = [.journalMismatch]
      }
      try await Self.withKilledRestore(tapped, count: count, settings) { restore in
        try await restore.kill(when: "some of the tap have arrived") { try await tapped.broker.depth("orders") > 3000 }
        var other = restore.restorer
        other.tap = nil
        await expectError {
          try await other.restore(
            from: tapped.repository.reader(for: restore.manifest), to: .latest, logger: TestBroker.logger)
        } matching: {
          "\($0)".contains("the journal is of a restore of other messages")
        }
        // Somebody takes what is there.
        try await tapped.empty()
        try await restore.run()
        let outcome = try #require(restore.outcomes.first)
        #expect(outcome.resumedFrom > 2000)
        #expect((1...200).contains(outcome.mayBeRepeated))
        let numbers = try await tapped.broker.numbers("orders")
        #expect(numbers == (Int(outcome.resumedFrom)..<count).map { $0 })
      }
    }
  }

  @Test(
    "With a tap asked for, a queue that has none is refused before anything is published, or restored without by name")
  func queueWithoutTap() async throws {
    try await Self.withTap { tapped in
      try await tapped.publish(0..<10)
      let manifest = try await tapped.backUp()
      await expectError {
        try await tapped.restore(manifest)
      } matching: {
        ($0 as? DRError)?.code == .changeLogGap && "\($0)".contains("no-tap: it has no tap")
      }
      #expect(try await tapped.broker.depth("orders") == 0)
      let (texts, outcome) = try await tapped.restore(manifest) { $0.overrides = [.noTap] }
      #expect(texts == (0..<10).map(String.init))
      #expect(outcome.findings.map(\.check) == ["no-tap"] && outcome.findings.first?.severity == .warning)
      // All of a dump came before it ended: that needs no tap.
      let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
      let end = Date(timeIntervalSince1970: Double(try #require(record.ended)) / 1000)
      #expect(try await tapped.restore(manifest, to: .time(end)).texts.count == 10)
    }
  }

  /// How many of the messages are in the dump.
  private static let dumped = 800

  /// Publishes messages, of which a tap has all and a dump the first ones, empties the queue, and lends the restore.
  private static func withKilledRestore(
    _ tapped: Tapped, count: Int, _ change: (inout RabbitMQMessageRestorer) -> Void,
    _ body: (JournaledRestore) async throws -> Void
  ) async throws {
    let tap = try tapped.tap()
    try await tap.prepare(logger: TestBroker.logger)
    let manifest = try await tapped.capture(tap, until: count) {
      try await tapped.publish(0..<dumped)
      let manifest = try await tapped.backUp()
      try await tapped.publish(dumped..<count)
      return manifest
    }
    try await tapped.empty()
    try await withTemporaryFolder { folder in
      var restorer = tapped.broker.restorer()
      restorer.tap = try await tapped.log()
      restorer.journalFolder = folder
      change(&restorer)
      try await body(try JournaledRestore(manifest, of: tapped.repository, by: restorer))
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
    }
  }
}

extension RabbitMQTests.Tapped {
  /// Takes away what the queue holds, and waits until the broker's statistics say so too.
  func empty() async throws {
    try await broker.api.delete("queues/\(broker.vhost)/orders/contents")
    try await TestBroker.eventually("the queue is empty") {
      let queue = try await broker.find("orders")
      let depth = try await broker.depth("orders")
      return depth == 0 && queue.ready == 0 && queue.unacknowledged == 0
    }
  }
}
