import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import ServiceLifecycle
import Testing

@Suite(.serialized) struct WALReceiverTests {
  /// Cut off by the server, stopped, and killed in the middle of storing, again and again while the server is written to:
  /// nothing is missing, and everything is what the server has.
  @Test func survivesBeingCutOffAnywhere() async throws {
    try await WALFixture.withServer { server, folder in
      // Keeps everything on the server to compare with.
      try await server.query("SELECT pg_create_physical_replication_slot('keeper', true)")
      let local = try await LocalTier(root: folder + "/repository", creating: true)
      let archive = try await WALFixture.archive(of: server, local)
      let start = try await WALReceiver(
        archive: archive, server: server.settings, options: WALFixture.options(), logger: BackupFixture.logger
      ).prepare(logger: BackupFixture.logger)

      let load = Task {
        while !Task.isCancelled { try await WALFixture.write(server) }
      }
      var random = TestData.Random(seed: 17)
      for round in 0..<12 {
        let tier = UnreliableTier(local)
        let options = WALFixture.options {
          $0.partialInterval = .milliseconds(Int.random(in: 1...100, using: &random))
          // A killed process stores no rest.
          if round % 3 == 0 { $0.shutdownLimit = .zero }
        }
        let receiver = try RunningReceiver(try await WALFixture.archive(of: server, tier), server, options)
        try await WALFixture.eventually("something to be durable") { receiver.durable > start }
        try await Task.sleep(for: .milliseconds(Int.random(in: 0...300, using: &random)))
        switch round % 3 {
        case 0:
          // As if killed: from some change on, none is made any more.
          tier.die(after: Int.random(in: 0...8, using: &random))
          try await Task.sleep(for: .milliseconds(200))
        case 1:
          for _ in 0..<3 {
            try await server.query(
              "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'dr_test'")
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...300, using: &random)))
          }
        default:
          tier.fail(true)
          try await Task.sleep(for: .milliseconds(Int.random(in: 0...400, using: &random)))
          tier.fail(false)
        }
        _ = await receiver.stop()
      }
      load.cancel()
      _ = await load.result

      let receiver = try RunningReceiver(archive, server)
      try await server.query("SELECT pg_switch_wal()")
      let end = try await WALFixture.position(server)
      try await receiver.waitUntilDurable(end)
      try await archive.waitUntilHolds(
        from: start, through: end, timeline: 1, systemIdentifier: archive.systemIdentifier, within: .seconds(30),
        logger: BackupFixture.logger)
      try await receiver.stop().get()
      let names = try await WALFixture.expectEqual(archive, server)
      #expect(names.count > 10)
      #expect(try #require(names.first).start <= start)
      // Only what is not full is there in part.
      let inventory = try await archive.inventory()
      #expect(inventory.partials.count <= 1 && inventory.foreign.isEmpty)
    }
  }

  @Test func aQuietServerLosesSeconds() async throws {
    try await WALFixture.withServer { server, folder in
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      let receiver = try RunningReceiver(archive, server)
      for _ in 0..<3 {
        try await server.query("INSERT INTO ledger (filler) VALUES ('one row')")
        let before = Date()
        let position = try await WALFixture.position(server)
        try await receiver.waitUntilDurable(position)
        let point = try #require(receiver.all.last)
        #expect(point.history == "1")
        // What is stored ends with the commit, and is a whole segment to recovery.
        let name = WALSegmentName(timeline: 1, holding: position, segmentSize: archive.segmentSize)
        let segment = try await archive.fetch("\(name)")
        #expect(segment.readableBytes == archive.segmentSize.bytes)
        let scan = segment.withUnsafeReadableBytes { WALScanner.scan($0, as: name) }
        #expect(scan.end >= position)
        let commit = try #require(scan.lastTransaction)
        #expect(abs(commit.time.timeIntervalSince(before)) < 60 && commit.time <= Date())
        let inventory = try await archive.inventory()
        #expect(inventory.partials.count == 1, "a shorter start of the segment was left")
      }
      // With nothing written at all, the recovery point's time goes on: nothing is lost by an idle server.
      let idle = try #require(receiver.all.last)
      try await WALFixture.eventually("the recovery point to move on") {
        receiver.all.last.map { $0.time > idle.time.addingTimeInterval(2) } ?? false
      }
      try await receiver.stop().get()
      let times = receiver.all.map(\.time)
      #expect(times == times.sorted())
    }
  }

  /// A recovery point's time is no later than its position allows, also while there is a backlog.
  @Test func recoveryPointsAreHonest() async throws {
    try await WALFixture.withServer { server, folder in
      try await server.query("SELECT pg_create_physical_replication_slot('keeper', true)")
      let tier = UnreliableTier(try await LocalTier(root: folder + "/repository", creating: true))
      let archive = try await WALFixture.archive(of: server, tier)
      let receiver = try WALReceiver(
        archive: archive, server: server.settings, options: WALFixture.options(), logger: BackupFixture.logger)
      let start = try await receiver.prepare(logger: BackupFixture.logger)
      try await WALFixture.write(server, megabytes: 6)
      try await Task.sleep(for: .seconds(4))
      let running = try RunningReceiver(archive, server, WALFixture.options { $0.partialInterval = .milliseconds(10) })
      for _ in 0..<10 {
        tier.hold(true)
        try await Task.sleep(for: .milliseconds(150))
        tier.hold(false)
        try await Task.sleep(for: .milliseconds(20))
      }
      try await WALFixture.write(server, megabytes: 2)
      let end = try await WALFixture.position(server)
      try await running.waitUntilDurable(end)
      try await running.stop().get()

      // The server's own tool says when what was committed.
      let dump = try await runCommand(
        server.installation.path("pg_waldump"),
        ["-p", "\(server.dataFolder)/pg_wal", "-r", "Transaction", "-s", "\(start)", "-e", "\(end)"])
      let pattern = /lsn: ([0-9A-F]+\/[0-9A-F]+), .* COMMIT (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC/
      let commits = String(decoding: dump.output, as: UTF8.self).matches(of: pattern).compactMap { match in
        LSN(match.1).flatMap { lsn in Timestamp.parse("\(match.2)Z").map { (lsn: lsn, time: $0) } }
      }
      #expect(commits.count > 50)
      let points = running.all
      #expect(points.count > 3)
      for point in points {
        let position = try #require(LSN(point.position))
        // A commit takes its time a little before it reaches the log.
        let missed = commits.first { $0.lsn >= position && $0.time < point.time.addingTimeInterval(-3) }
        #expect(missed == nil, "\(point) does not hold the commit at \(missed.map { "\($0)" } ?? "")")
      }
      #expect(zip(points, points.dropFirst()).allSatisfy { $0.time <= $1.time })
    }
  }

  @Test func acknowledgesOnlyWhatIsDurable() async throws {
    try await WALFixture.withServer { server, folder in
      let tier = UnreliableTier(try await LocalTier(root: folder + "/repository", creating: true))
      let archive = try await WALFixture.archive(of: server, tier)
      let receiver = try RunningReceiver(archive, server)
      try await receiver.waitUntilDurable(try await WALFixture.position(server))
      func column(_ name: String) async throws -> LSN? {
        try await server.query("SELECT \(name) FROM pg_stat_replication").single.flatMap { LSN($0) }
      }
      for isHeld in [true, false] {
        let before = receiver.durable
        if isHeld { tier.hold(true) } else { tier.fail(true) }
        try await WALFixture.write(server, megabytes: 3)
        let position = try await WALFixture.position(server)
        // It goes on answering: the server sees it receive, and keeps everything.
        try await WALFixture.eventually("the receiver to have taken more") {
          try await column("write_lsn") ?? before > before
        }
        try await Task.sleep(for: .milliseconds(600))
        #expect(try await column("flush_lsn") == before)
        #expect(receiver.durable == before)
        let kept = try await server.query("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'dr_test'")
          .single
        #expect(kept.flatMap { LSN($0) } == before)
        tier.hold(false)
        tier.fail(false)
        try await receiver.waitUntilDurable(position)
        try await WALFixture.eventually("the server to know") { try await column("flush_lsn") ?? before >= position }
      }
      try await receiver.stop().get()
    }
  }

  @Test func aKilledServersLastBytesAreStored() async throws {
    try await WALFixture.withServer { server, folder in
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      // Nothing is stored on time.
      let receiver = try RunningReceiver(archive, server, WALFixture.options { $0.partialInterval = .seconds(3600) })
      try await WALFixture.eventually("the stream") {
        try await server.query("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").single == "1"
      }
      try await WALFixture.write(server, megabytes: 2)
      let position = try await WALFixture.position(server)
      try await WALFixture.eventually("the server to have sent everything") {
        try await server.query("SELECT sent_lsn >= '\(position)' FROM pg_stat_replication").single == "t"
      }
      try await server.kill()
      try await receiver.waitUntilDurable(position)
      // The server comes back, and so does the receiver.
      try await server.start()
      try await WALFixture.write(server, megabytes: 2)
      try await server.query("SELECT pg_switch_wal()")
      let end = try await WALFixture.position(server)
      try await receiver.waitUntilDurable(LSN(end.rawValue / (1 << 20) * (1 << 20)))
      try await receiver.stop().get()
    }
  }

  @Test func aGracefulShutdownStoresAndAcknowledgesTheRest() async throws {
    try await WALFixture.withServer { server, folder in
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      let receiver = try WALReceiver(
        archive: archive, server: server.settings,
        options: WALFixture.options { $0.partialInterval = .seconds(3600) }, logger: BackupFixture.logger)
      let group = ServiceGroup(services: [receiver], logger: BackupFixture.logger)
      let running = Task { try await group.run() }
      try await WALFixture.eventually("the stream") {
        try await server.query("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").single == "1"
      }
      try await WALFixture.write(server)
      let position = try await WALFixture.position(server)
      try await WALFixture.eventually("the server to have sent everything") {
        try await server.query("SELECT sent_lsn >= '\(position)' FROM pg_stat_replication").single == "t"
      }
      await group.triggerGracefulShutdown()
      try await running.value
      let inventory = try await archive.inventory()
      #expect(inventory.partials.contains { $0.key.start.rawValue + UInt64($0.value) >= position.rawValue })
      let slot = try await server.query(
        "SELECT restart_lsn, active FROM pg_replication_slots WHERE slot_name = 'dr_test'"
      ).first
      #expect(try #require(slot?["restart_lsn"].flatMap { LSN($0) }) >= position)
      try await WALFixture.eventually("the server to end its side") {
        try await server.query("SELECT count(*) FROM pg_stat_replication").single == "0"
      }
    }
  }

  @Test func aServerThatGoesSilentIsLeft() async throws {
    try await WALFixture.withServer { server, folder in
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      let receiver = try RunningReceiver(archive, server, WALFixture.options { $0.silenceLimit = .seconds(2) })
      try await receiver.waitUntilDurable(try await WALFixture.position(server))
      let sender = try await server.query("SELECT pid FROM pg_stat_replication").single
      let process = try #require(sender.flatMap { Int32($0) })
      #expect(kill(process, SIGSTOP) == 0)
      try await WALFixture.eventually("the receiver to notice") { receiver.log.contains("said nothing") }
      #expect(kill(process, SIGCONT) == 0)
      try await WALFixture.write(server)
      try await receiver.waitUntilDurable(try await WALFixture.position(server))
      try await receiver.stop().get()
    }
  }

  @Test func anEncryptedArchiveNeedsNoIdentityToBeWritten() async throws {
    try await WALFixture.withServer { server, folder in
      let identity = AgeIdentity.generate()
      let tier = try await LocalTier(root: folder + "/repository", creating: true)
      let encoding = Encoding(recipients: [try #require(identity.recipient)])
      let blind = try await WALFixture.archive(of: server, tier, encoding: encoding)
      for _ in 0..<2 {
        let receiver = try RunningReceiver(blind, server)
        try await WALFixture.write(server, megabytes: 2)
        let position = try await WALFixture.position(server)
        try await receiver.waitUntilDurable(position)
        try await blind.waitUntilHolds(
          from: position, through: position, timeline: 1, systemIdentifier: blind.systemIdentifier, within: .seconds(1),
          logger: BackupFixture.logger)
        try await receiver.stop().get()
      }
      let name = try #require(try await blind.inventory().segments.keys.first)
      let refused = await #expect(throws: DRError.self) { try await blind.fetch("\(name)") }
      #expect(refused?.code == .noMatchingIdentity)
      let open = try await WALFixture.archive(
        of: server, tier, encoding: encoding, decoding: Decoding(identities: [identity]))
      _ = try await WALFixture.expectEqual(open, server)
    }
  }

  @Test func anotherClustersArchiveIsRefused() async throws {
    try await WALFixture.withServer { server, folder in
      let tier = try await LocalTier(root: folder + "/repository", creating: true)
      let other = try WALArchive(
        tier: tier, component: WALFixture.component(), systemIdentifier: "1234567890123456789",
        segmentSize: WALSegmentSize(1 << 20))
      let receiver = try RunningReceiver(other, server)
      let result = try await receiver.end()
      let error = #expect(throws: DRError.self) { try result.get() }
      #expect(error?.code == .invalidConfiguration)
      await #expect(throws: DRError.self) {
        try await WALReceiver(
          archive: other, server: server.settings, options: WALFixture.options(), logger: BackupFixture.logger
        ).prepare(logger: BackupFixture.logger)
      }
      #expect(try await tier.listAll(prefix: "").isEmpty)
      #expect(try await server.query("SELECT count(*) FROM pg_replication_slots").single == "0")
    }
  }

  @Test func aSlotThatAnotherReceiverKeepsIsGivenUpWithItsProcess() async throws {
    try await WALFixture.withServer { server, folder in
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      let first = try RunningReceiver(archive, server)
      try await first.waitUntilDurable(try await WALFixture.position(server))
      let process = try #require(try await server.query("SELECT active_pid FROM pg_replication_slots").single)
      let second = try RunningReceiver(archive, server, WALFixture.options { $0.slotPatience = .seconds(2) })
      let result = try await second.end(within: .seconds(20))
      let error = #expect(throws: DRError.self) { try result.get() }
      #expect(error?.code == .sourceFailed && error?.message.contains("active for PID \(process)") == true)
      #expect(second.log.contains("WAL streaming stopped; trying again"))
      // The first one has lost nothing by it.
      try await WALFixture.write(server)
      try await first.waitUntilDurable(try await WALFixture.position(server))
      try await first.stop().get()
    }
  }

  @Test func badSlotNamesAreRefused() async throws {
    let tier = try await withTemporaryFolder { try await LocalTier(root: $0 + "/r", creating: true) }
    let archive = try WALArchive(tier: tier, component: WALFixture.component(), systemIdentifier: "1")
    for name in ["", "Upper", "a b", "a\"; DROP", String(repeating: "a", count: 64)] {
      #expect(throws: DRError.self) {
        try WALReceiver(
          archive: archive, server: PostgresConnectionSettings(), options: WALReceiver.Options(slot: name),
          logger: BackupFixture.logger)
      }
    }
  }
}
