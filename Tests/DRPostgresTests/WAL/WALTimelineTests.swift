import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// Standbys that are promoted while a receiver follows them, or before it comes back.
@Suite(.serialized) struct WALTimelineTests {
  /// A primary, and a standby that streams from it and can be followed itself.
  private func withStandby(
    _ body: (_ primary: PostgresSandbox, _ standby: PostgresSandbox, _ folder: String) async throws -> Void
  ) async throws {
    try await WALFixture.withServer { primary, folder in
      let copy = folder + "/standby"
      let made = try await runCommand(
        primary.installation.path("pg_basebackup"),
        [
          "-D", copy, "-R", "-X", "stream", "-c", "fast", "-h", try #require(primary.settings.host), "-p",
          "\(try #require(primary.settings.port))", "-U", "postgres",
        ])
      try #require(made.status == 0, "\(made.error)")
      // The server's user follows, not the user of the test.
      try await PostgresSandbox.with(
        PostgresSandbox.start(dataFolder: copy, WALFixture.server(), isHarmless: false, logger: BackupFixture.logger)
      ) { standby in try await body(primary, standby, folder) }
    }
  }

  private func caughtUp(_ standby: PostgresSandbox, with primary: PostgresSandbox) async throws -> LSN {
    let position = try await WALFixture.position(primary)
    try await WALFixture.eventually("the standby to catch up") { try await WALFixture.position(standby) >= position }
    return position
  }

  /// The log of the new timeline equals the server's, what was before is there on the old one, and the way between them
  /// can be found.
  private func expectTheWay(
    _ archive: WALArchive, _ standby: PostgresSandbox, from start: LSN, through end: LSN, timeline: UInt32 = 2
  ) async throws {
    let history = try await archive.history(of: timeline)
    let fork = try #require(history.end(of: timeline - 1))
    let file = try String(contentsOfFile: "\(standby.dataFolder)/pg_wal/0000000\(timeline).history", encoding: .utf8)
    #expect(String(buffer: try await archive.fetch("0000000\(timeline).history")) == file)
    _ = try await WALFixture.expectEqual(archive, standby, timeline: timeline)
    let inventory = try await archive.inventory()
    // The old timeline's last piece ends where the new one begins.
    let last = WALSegmentName(timeline: timeline - 1, holding: fork, segmentSize: archive.segmentSize)
    if fork > last.start { #expect(inventory.partials[last] == Int(fork.rawValue - last.start.rawValue)) }
    try await archive.waitUntilHolds(
      from: start, through: end, timeline: timeline, systemIdentifier: archive.systemIdentifier, within: .seconds(5),
      logger: BackupFixture.logger)
  }

  @Test func aBaseBackupOfAStandbyRestores() async throws {
    try await withStandby { primary, standby, folder in
      try await WALFixture.write(primary, megabytes: 2)
      _ = try await caughtUp(standby, with: primary)
      let expected = try await primary.query("SELECT count(*) FROM ledger").single
      let repository = Repository(tier: try await LocalTier(root: folder + "/backups", creating: true))
      let manifest = try await BackupFixture.backUp(BackupFixture.source(standby), to: repository)
      let place = folder + "/restored"
      _ = try await BackupFixture.restore(manifest, from: repository, to: place)
      try await BackupFixture.verify(place, standby)
      let restored = try await PostgresSandbox.start(
        dataFolder: place, WALFixture.server(), until: .promoted, limit: .seconds(60), logger: BackupFixture.logger)
      try await PostgresSandbox.with(restored) { restored in
        let rows = try await restored.query("SELECT count(*) FROM ledger").single
        #expect(rows == expected)
      }
    }
  }

  @Test func aPromotionWhileStreaming() async throws {
    try await withStandby { primary, standby, folder in
      let archive = try await WALFixture.archive(of: standby, LocalTier(root: folder + "/repository", creating: true))
      let receiver = try RunningReceiver(archive, standby)
      try await WALFixture.write(primary, megabytes: 3)
      let position = try await caughtUp(standby, with: primary)
      try await receiver.waitUntilDurable(position)
      let start = LSN(position.rawValue - (2 << 20))

      try await standby.query("SELECT pg_promote()")
      try await WALFixture.write(standby, megabytes: 3)
      let end = try await WALFixture.position(standby)
      try await receiver.waitUntilDurable(end)
      try await WALFixture.eventually("the recovery point's timeline") { receiver.all.last?.history == "2" }
      try await receiver.stop().get()
      try await expectTheWay(archive, standby, from: start, through: end)

      // And once more, after a restart of the receiver.
      let next = try RunningReceiver(archive, standby)
      try await WALFixture.write(standby, megabytes: 2)
      let later = try await WALFixture.position(standby)
      try await next.waitUntilDurable(later)
      try await next.stop().get()
      try await expectTheWay(archive, standby, from: start, through: later)
    }
  }

  @Test func aPromotionWhileTheReceiverIsAway() async throws {
    try await withStandby { primary, standby, folder in
      let archive = try await WALFixture.archive(of: standby, LocalTier(root: folder + "/repository", creating: true))
      let receiver = try RunningReceiver(archive, standby)
      try await WALFixture.write(primary, megabytes: 2)
      let position = try await caughtUp(standby, with: primary)
      try await receiver.waitUntilDurable(position)
      try await receiver.stop().get()
      // More on the old timeline that the archive does not have yet.
      try await WALFixture.write(primary, megabytes: 3)
      _ = try await caughtUp(standby, with: primary)
      try await standby.query("SELECT pg_promote()")
      try await WALFixture.write(standby, megabytes: 3)

      let next = try RunningReceiver(archive, standby)
      let end = try await WALFixture.position(standby)
      try await next.waitUntilDurable(end)
      try await next.stop().get()
      try await expectTheWay(archive, standby, from: LSN(position.rawValue - (1 << 20)), through: end)
    }
  }

  /// The receiver followed the primary, further than the standby came: the primary's last commits are kept on the old
  /// timeline, and the new one is complete.
  @Test func aFailoverToAStandbyThatLaggedBehind() async throws {
    try await withStandby { primary, standby, folder in
      let tier = try await LocalTier(root: folder + "/repository", creating: true)
      let archive = try await WALFixture.archive(of: primary, tier)
      // As it should be: a slot on the standby keeps WAL there too.
      try await WALReceiver(
        archive: archive, server: standby.settings, options: WALFixture.options(), logger: BackupFixture.logger
      ).prepare(logger: BackupFixture.logger)
      let receiver = try RunningReceiver(archive, primary)
      try await WALFixture.write(primary, megabytes: 2)
      let common = try await caughtUp(standby, with: primary)
      try await standby.query("ALTER SYSTEM SET primary_conninfo = ''")
      try await standby.query("SELECT pg_reload_conf()")
      try await WALFixture.eventually("the standby to be alone") {
        try await standby.query("SELECT count(*) FROM pg_stat_wal_receiver").single == "0"
      }
      try await WALFixture.write(primary, megabytes: 3)
      let lost = try await WALFixture.position(primary)
      try await receiver.waitUntilDurable(lost)
      try await primary.kill()
      try await receiver.stop().get()

      try await standby.query("SELECT pg_promote()")
      try await WALFixture.write(standby, megabytes: 4)
      let next = try RunningReceiver(archive, standby)
      let end = try await WALFixture.position(standby)
      try await WALFixture.eventually("the new timeline to be durable") {
        next.all.last.map { $0.history == "2" && LSN($0.position).map { $0 >= end } == true } ?? false
      }
      try await next.stop().get()
      _ = try await WALFixture.expectEqual(archive, standby, timeline: 2)
      for (timeline, reach) in [(UInt32(1), lost), (2, end)] {
        try await archive.waitUntilHolds(
          from: LSN(common.rawValue - (1 << 20)), through: reach, timeline: timeline,
          systemIdentifier: archive.systemIdentifier, within: .seconds(5), logger: BackupFixture.logger)
      }
    }
  }

  @Test func aBaseBackupOfAStandbyWaitsForTheArchive() async throws {
    try await withStandby { primary, standby, folder in
      let tier = try await LocalTier(root: folder + "/repository", creating: true)
      let archive = try await WALFixture.archive(of: standby, tier)
      let other = await #expect(throws: DRError.self) {
        try await archive.waitUntilHolds(
          from: LSN(0), through: LSN(1), timeline: 1, systemIdentifier: "1", within: .seconds(1),
          logger: BackupFixture.logger)
      }
      #expect(other?.code == .invalidConfiguration)
      let position = try await WALFixture.position(primary)
      let late = await #expect(throws: DRError.self) {
        try await archive.waitUntilHolds(
          from: LSN(position.rawValue - 1), through: position, timeline: 1, systemIdentifier: archive.systemIdentifier,
          within: .milliseconds(100), logger: BackupFixture.logger)
      }
      #expect(late?.code == .timedOut)
    }
  }
}
