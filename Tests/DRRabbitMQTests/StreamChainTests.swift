import DRCore
import DRRabbitMQ
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import NIOCore
import Testing

/// Streams that are captured by and by.
extension RabbitMQTests {
  @Test(
    "A stream that was captured by and by comes back whole, also by a restore that was killed, and not without a part")
  func chainOfStreams() async throws {
    try await TestBroker.with { broker in
      for name in ["events", "again", "later"] { try await broker.declare(name, "stream") }
      try await TestBroker.withRepository { repository, folder in
        var backups: [BackupManifest] = []
        for (count, part) in [2500, 2, 0, 1500].enumerated() {
          let start = [0, 2500, 2502, 2502][count]
          try await broker.publish(TestBroker.numbered(start..<(start + part)), to: "events")
          var source = try broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["events"]))
          source.since = backups.last
          backups.append(try await TestBroker.backUp(source, to: repository))
          let record = try #require(RabbitMQQueueRecord.all(of: backups[count]).first)
          #expect(record.summary.messages == part && record.fromOffset == Int64(start))
        }
        #expect(backups.map(\.parent) == [nil] + backups.dropLast().map(\.id))
        let newest = try #require(backups.last)
        let findings = try await BackupVerifier(newest, in: repository).verify(logger: TestBroker.logger)
        #expect(findings.last?.check == "backup-chain" && findings.allSatisfy { $0.severity == .passed })

        // Killed in the second part, by a tier that is gone, it goes on there.
        var restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/events"] = "again"
        restorer.journalFolder = folder
        restorer.readsFirst = false
        let last = try newest.artifact(try #require(RabbitMQQueueRecord.all(of: newest).first).artifact)
        let damaged = FaultInjectingTier(repository.tier) {
          $0.kind == .get && $0.subject == last.key.rawValue ? .inside : nil
        }
        await expectError {
          try await restorer.restore(
            from: Repository(tier: damaged).reader(for: newest), to: .latest, logger: TestBroker.logger)
        } matching: { _ in
          true
        }
        let outcome = try await restorer.restore(
          from: repository.reader(for: newest), to: .latest, logger: TestBroker.logger)
        #expect(outcome.items < 4002)
        #expect(try await broker.dump("again").map(\.text) == (0..<4002).map(String.init))

        // What it goes on from is kept by retention, and missed when it is gone.
        let plan = try await repository.prunePlan(RetentionPolicy([.newest(1)]))
        #expect(plan.decisions.allSatisfy { $0.action == .keep } && plan.decisions.count == 4)
        let second = try backups[1].artifact(try #require(RabbitMQQueueRecord.all(of: backups[1]).first).artifact)
        try await repository.tier.delete(second.key)
        let torn = try await BackupVerifier(newest, in: repository).verify(logger: TestBroker.logger)
        #expect(torn.last?.severity == .failure && torn.last?.subject == backups[1].id)
        try await repository.tier.delete(
          try ObjectKey("rabbitmq/metadata/\(backups[1].id).json"))
        restorer = broker.restorer()
        restorer.renames["\(broker.vhost)/events"] = "later"
        await expectError {
          try await restorer.restore(from: repository.reader(for: newest), to: .latest, logger: TestBroker.logger)
        } matching: {
          ($0 as? DRError)?.code == .objectNotFound && "\($0)".contains(backups[1].id)
        }
        let headless = try await BackupVerifier(newest, in: repository).verify(logger: TestBroker.logger)
        #expect(headless.last?.severity == .failure && headless.last?.check == "backup-chain")
        #expect(try await broker.dump("later").isEmpty)
      }
    }
  }

  @Test("A stream that was made anew under its name is captured whole, whatever its offsets are")
  func streamMadeAnew() async throws {
    try await TestBroker.with { broker in
      try await TestBroker.withRepository { repository, _ in
        func backUp(since: BackupManifest?) async throws -> RabbitMQQueueRecord {
          var source = try broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["events"]))
          source.since = since
          let manifest = try await TestBroker.backUp(source, to: repository)
          let record = try #require(RabbitMQQueueRecord.all(of: manifest).first)
          #expect((manifest.parent != nil) == (record.fromOffset != 0))
          return record
        }
        try await broker.declare("events", "stream")
        try await broker.publish(TestBroker.numbered(0..<200), to: "events")
        var source = try broker.source(RabbitMQQueueSelection(vhosts: [broker.vhost], patterns: ["events"]))
        let first = try await TestBroker.backUp(source, to: repository)
        #expect(try await backUp(since: first).fromOffset == 200)
        // Of fewer, of as many, and of more messages.
        for count in [50, 200, 300] {
          try await broker.api.delete("queues/\(broker.vhost)/events")
          try await broker.declare("events", "stream")
          try await broker.publish(TestBroker.numbered(1000..<(1000 + count)), to: "events")
          let record = try await backUp(since: first)
          #expect(record.fromOffset == 0 && record.summary.messages == count, "\(count)")
        }
        // With an equal tail, and another beginning.
        func publishLike(_ start: Int) async throws {
          try await broker.api.delete("queues/\(broker.vhost)/events")
          try await broker.declare("events", "stream")
          try await broker.publish(
            TestBroker.numbered(start..<(start + 250)) + TestBroker.numbered(5000..<5150), to: "events")
        }
        try await publishLike(2000)
        let long = try await TestBroker.backUp(source, to: repository)
        #expect(try await backUp(since: long).fromOffset == 400)
        try await publishLike(3000)
        let alike = try await backUp(since: long)
        #expect(alike.fromOffset == 0 && alike.summary.messages == 400)
        // Of another cluster.
        var stranger = first
        stranger.systemIdentifier = "another"
        source.since = stranger
        #expect(RabbitMQQueueRecord.all(of: try await TestBroker.backUp(source, to: repository)).first?.fromOffset == 0)
      }
    }
  }
}
