import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// A receiver never goes on behind lost WAL as if nothing had happened.
@Suite(.serialized) struct WALGapTests {
  private func slots(_ server: PostgresSandbox) async throws -> [String] {
    try await server.query("SELECT slot_name FROM pg_replication_slots ORDER BY 1").compactMap { $0[0] }
  }

  /// Writes and checkpoints until the server has removed the segment that a receiver would ask for.
  private func loseWAL(_ server: PostgresSandbox, _ archive: WALArchive, from position: LSN) async throws {
    let lost = WALSegmentName(timeline: 1, holding: position, segmentSize: archive.segmentSize)
    try await WALFixture.eventually("the server to remove \(lost)") {
      try await WALFixture.write(server, megabytes: 4)
      try await server.query("CHECKPOINT")
      return !FileManager.default.fileExists(atPath: "\(server.dataFolder)/pg_wal/\(lost)")
    }
  }

  /// Archives a little, stops, and gives where the archive ends.
  private func archiveSome(_ archive: WALArchive, _ server: PostgresSandbox) async throws -> LSN {
    let receiver = try RunningReceiver(archive, server)
    try await WALFixture.write(server, megabytes: 2)
    try await receiver.waitUntilDurable(try await WALFixture.position(server))
    try await receiver.stop().get()
    return receiver.durable
  }

  @Test(arguments: ["dropped", "invalidated"])
  func aLostSlotIsAGap(how: String) async throws {
    let settings = how == "invalidated" ? ["max_slot_wal_keep_size": "2MB"] : [:]
    try await WALFixture.withServer(settings) { server, folder in
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      let end = try await archiveSome(archive, server)
      if how == "dropped" {
        try await WALFixture.eventually("the slot to be free") {
          try await server.query("SELECT active FROM pg_replication_slots").single == "f"
        }
        try await server.query("SELECT pg_drop_replication_slot('dr_test')")
      }
      try await loseWAL(server, archive, from: end)
      if how == "invalidated" {
        let status = try await server.query("SELECT wal_status FROM pg_replication_slots").single
        #expect(status == "lost")
      }
      let before = try await archive.inventory()
      let slotsBefore = try await slots(server)

      let refused = try await RunningReceiver(archive, server).end()
      let error = try #require(#expect(throws: DRError.self) { try refused.get() })
      #expect(error.code == .changeLogGap, "\(error)")
      // From where to where, and whose.
      #expect(error.message.contains("from \(end) to "), "\(error)")
      #expect(error.component == archive.component)
      // Nothing has changed: no new start, no slot that nobody follows.
      let after = try await archive.inventory()
      #expect(after.segments == before.segments && after.partials == before.partials)
      #expect(try await slots(server) == slotsBefore)
      let again = try await RunningReceiver(archive, server).end()
      #expect(throws: DRError.self) { try again.get() }

      // Only when told so; then the gap is there to be seen.
      let accepting = try RunningReceiver(archive, server, WALFixture.options { $0.acceptsGap = true })
      try await WALFixture.write(server, megabytes: 2)
      let position = try await WALFixture.position(server)
      try await accepting.waitUntilDurable(position)
      try await accepting.stop().get()
      #expect(accepting.log.contains("from \(end) to "))
      let numbers = try await archive.inventory().segments.keys.map(\.number).sorted()
      #expect(zip(numbers, numbers.dropFirst()).contains { $1 > $0 + 1 })
      // And the next start goes on from there.
      let next = try RunningReceiver(archive, server)
      try await WALFixture.write(server)
      try await next.waitUntilDurable(try await WALFixture.position(server))
      try await next.stop().get()
    }
  }

  @Test func aMissingSlotWithoutLossIsMadeAgain() async throws {
    try await WALFixture.withServer { server, folder in
      try await server.query("SELECT pg_create_physical_replication_slot('keeper', true)")
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      _ = try await archiveSome(archive, server)
      try await WALFixture.eventually("the slot to be free") {
        try await server.query("SELECT active FROM pg_replication_slots WHERE slot_name = 'dr_test'").single == "f"
      }
      try await server.query("SELECT pg_drop_replication_slot('dr_test')")
      try await WALFixture.write(server, megabytes: 2)
      let receiver = try RunningReceiver(archive, server)
      try await receiver.waitUntilDurable(try await WALFixture.position(server))
      try await receiver.stop().get()
      #expect(receiver.log.contains("slot is missing"))
      _ = try await WALFixture.expectEqual(archive, server)
    }
  }

  @Test func aPreparedSlotKeepsEverything() async throws {
    try await WALFixture.withServer { server, folder in
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      let receiver = try WALReceiver(
        archive: archive, server: server.settings, options: WALFixture.options(), logger: BackupFixture.logger)
      let kept = try await receiver.prepare(logger: BackupFixture.logger)
      #expect(try await receiver.prepare(logger: BackupFixture.logger) == kept)
      for _ in 0..<4 {
        try await WALFixture.write(server, megabytes: 4)
        try await server.query("CHECKPOINT")
      }
      let running = try RunningReceiver(archive, server)
      let position = try await WALFixture.position(server)
      try await running.waitUntilDurable(position)
      try await running.stop().get()
      try await archive.waitUntilHolds(
        from: kept, through: position, timeline: 1, systemIdentifier: archive.systemIdentifier, within: .seconds(1),
        logger: BackupFixture.logger)
    }
  }

  @Test func aSlotThatLostItsWALBeforeTheFirstStartIsAGap() async throws {
    try await WALFixture.withServer(["max_slot_wal_keep_size": "2MB"]) { server, folder in
      let archive = try await WALFixture.archive(of: server, LocalTier(root: folder + "/repository", creating: true))
      let receiver = try WALReceiver(
        archive: archive, server: server.settings, options: WALFixture.options(), logger: BackupFixture.logger)
      let kept = try await receiver.prepare(logger: BackupFixture.logger)
      try await loseWAL(server, archive, from: kept)
      // A base backup may have relied on it.
      let result = try await RunningReceiver(archive, server).end()
      let error = #expect(throws: DRError.self) { try result.get() }
      #expect(error?.code == .changeLogGap)
      let refused = await #expect(throws: DRError.self) { try await receiver.prepare(logger: BackupFixture.logger) }
      #expect(refused?.code == .changeLogGap)
      #expect(try await archive.inventory().isEmpty)
    }
  }

  /// An older copy of the cluster, started by itself on the same timeline, is not taken for the cluster.
  @Test func aServerBehindItsArchiveIsRefused() async throws {
    try await WALFixture.withServer { server, folder in
      let tier = try await LocalTier(root: folder + "/repository", creating: true)
      let archive = try await WALFixture.archive(of: server, tier)
      try await server.stop()
      let copy = folder + "/copy"
      let copied = try await runCommand("cp", ["-a", server.dataFolder, copy])
      #expect(copied.status == 0, "\(copied.error)")
      try await server.start()
      let end = try await archiveSome(archive, server)
      try await server.stop()
      // It keeps its log: what it no longer has could not be compared.
      let options = WALFixture.server(["wal_keep_size": "1GB"])
      try await PostgresSandbox.with(
        PostgresSandbox.start(dataFolder: copy, options, isHarmless: false, logger: BackupFixture.logger)
      ) { old in
        let result = try await RunningReceiver(archive, old).end()
        let error = try #require(#expect(throws: DRError.self) { try result.get() })
        #expect(error.code == .changeLogGap && error.message.contains("\(end)"), "\(error)")

        // Nor is a base backup of it taken for one that this archive's WAL belongs to.
        let repository = Repository(tier: tier)
        let source = PostgresBaseBackup(
          component: archive.component, server: old.settings, requiredWAL: .archived(archive, within: .seconds(20)))
        let backedUp = await #expect(throws: DRError.self) {
          try await repository.backUp(source, cadence: .daily, logger: BackupFixture.logger)
        }
        #expect(backedUp?.code == .changeLogGap, "\(String(describing: backedUp))")

        // Once it has gone past the archive's end, its own last segments show that its history is another.
        let before = try await archive.inventory()
        try await WALFixture.eventually("the copy to be past the archive's end") {
          try await WALFixture.write(old, megabytes: 2)
          return try await WALFixture.position(old) > end.advanced(by: 4 << 20)
        }
        let joined = try await RunningReceiver(archive, old).end()
        let conflict = try #require(#expect(throws: DRError.self) { try joined.get() })
        #expect(conflict.code == .segmentConflict, "\(conflict)")
        #expect(try await archive.inventory().segments == before.segments)
      }
    }
  }
}
