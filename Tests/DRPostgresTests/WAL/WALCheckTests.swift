import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import Testing

@Suite(.serialized) struct WALCheckTests {
  // MARK: By names

  private let size = WALSegmentSize.standard

  private func inventory(_ names: [String]) -> WALInventory {
    WALInventory(
      names: names.filter { !$0.hasSuffix(".partial") },
      partials: names.filter { $0.hasSuffix(".partial") }.map { String($0.dropLast(8)) }, segmentSize: size)
  }

  private func segments(_ numbers: ClosedRange<Int>, timeline: Int = 1) -> [String] {
    numbers.map {
      "\(WALSegmentName(timeline: UInt32(timeline), number: UInt64($0), segmentSize: size))"
    }
  }

  private func backup(
    from: String = "0/3000028", to: String = "0/4000100", timeline: String = "1", walIncluded: Bool = false
  ) throws -> BackupManifest {
    let end = RecoveryPoint(time: Date(timeIntervalSince1970: 1_800_000_000), position: to, history: timeline)
    return BackupManifest(
      id: "backup", component: try WALFixture.component(), cadence: .daily, started: end.time, ended: end.time,
      capture: Capture(
        recoveryPoint: end, changesFrom: RecoveryPoint(time: end.time, position: from, history: timeline),
        method: .basebackup, systemIdentifier: "1", properties: ["walIncluded": .bool(walIncluded)]),
      artifacts: [])
  }

  private func check(
    _ names: [String], _ backup: BackupManifest, _ histories: [UInt32: String] = [:]
  ) throws -> WALCheckReport.Backup {
    var parsed: [UInt32: TimelineHistory] = [:]
    for (timeline, text) in histories { parsed[timeline] = try TimelineHistory(parsing: text, timeline: timeline) }
    let files = histories.keys.map { "\(WALFileName.history(timeline: $0))" }
    return try WALCheck.check(backup, inventory(names + files), parsed).0
  }

  @Test func everyGapIsNamed() throws {
    let whole = try check(segments(2...9), backup())
    #expect(whole.isRestorable && whole.gaps.isEmpty && whole.through == LSN("0/A000000") && whole.timelines == [1])

    let torn = try check(segments(3...6) + segments(10...11) + segments(13...14), backup())
    #expect(torn.isRestorable && torn.through == LSN("0/7000000"))
    #expect(
      torn.gaps.map(\.description) == [
        "missing 000000010000000000000007 ... 000000010000000000000009 (3 segments)",
        "missing 00000001000000000000000C (1 segment)",
      ])

    // Not even consistent.
    let early = try check(segments(3...3) + segments(5...6), backup())
    #expect(!early.isRestorable && early.through == LSN("0/4000000"))
    #expect(early.gaps.map(\.description) == ["missing 000000010000000000000004 (1 segment)"])
    let none = try check(segments(8...9), backup())
    #expect(!none.isRestorable && none.gaps.map(\.count) == [5])
    #expect(try !check([], backup()).isRestorable)
    #expect(try !check(segments(1...2), backup()).isRestorable)
  }

  @Test func aPartialSegmentIsTheEnd() throws {
    let end = try check(segments(3...4) + ["000000010000000000000005.00001000.partial"], backup())
    #expect(end.isRestorable && end.through == LSN("0/5001000") && end.gaps.isEmpty)
    let enough = try check(segments(3...3) + ["000000010000000000000004.00000100.partial"], backup())
    #expect(enough.isRestorable)
    let short = try check(segments(3...3) + ["000000010000000000000004.000000FF.partial"], backup())
    #expect(!short.isRestorable && short.gaps.isEmpty)
    // In the middle it is a gap: the log goes on behind it.
    let middle = try check(
      segments(3...4) + ["000000010000000000000005.00001000.partial"] + segments(6...7), backup())
    #expect(middle.through == LSN("0/5001000") && middle.gaps.map(\.count) == [1])
  }

  @Test func aBackupWithItsOwnWAL() throws {
    let alone = try check([], backup(walIncluded: true))
    #expect(alone.isRestorable && alone.through == LSN("0/4000100") && alone.gaps.isEmpty)
    #expect(try check(segments(4...6), backup(walIncluded: true)).through == LSN("0/7000000"))
    let torn = try check(segments(6...6), backup(walIncluded: true))
    #expect(torn.isRestorable && torn.through == LSN("0/4000100") && torn.gaps.map(\.count) == [2])
  }

  @Test func theLatestTimelineIsFollowed() throws {
    let second = [UInt32(2): "1\t0/6000100\tx\n"]
    let way = try check(segments(3...6) + segments(6...8, timeline: 2), backup(), second)
    #expect(way.isRestorable && way.timelines == [1, 2] && way.through == LSN("0/9000000") && way.gaps.isEmpty)
    // The old timeline's last piece is not needed, and what the old primary wrote behind the fork is not on the way.
    let apart = try check(segments(3...5) + segments(6...8, timeline: 2), backup(), second)
    #expect(apart.through == LSN("0/9000000") && apart.gaps.isEmpty)
    let stray = try check(segments(3...12) + segments(6...8, timeline: 2), backup(), second)
    #expect(stray.through == LSN("0/9000000") && stray.gaps.isEmpty)
    // The new timeline's first segment is: the old one leads up to the fork only.
    let torn = try check(segments(3...6) + segments(7...8, timeline: 2), backup(), second)
    #expect(torn.through == LSN("0/6000100"))
    #expect(torn.gaps.map(\.description) == ["missing 000000020000000000000006 (1 segment)"])
    // A history that does not come from the backup.
    let other = try check(segments(3...8), backup(), [2: "1\t0/3500000\tx\n"])
    #expect(other.isRestorable && other.problem?.contains("timeline 2") == true && other.timelines == [1])
    #expect(other.through == LSN("0/9000000"))
    // The server counts up: a missing history hides the ones behind it.
    let hidden = try check(segments(3...6), backup(), [3: "1\t0/6000100\tx\n"])
    #expect(hidden.timelines == [1])
    // A backup of a later timeline.
    let later = try check(
      segments(3...6) + segments(6...8, timeline: 2), backup(from: "0/7000028", to: "0/7000100", timeline: "2"), second)
    #expect(later.isRestorable && later.timelines == [2] && later.through == LSN("0/9000000"))
  }

  @Test func conflictsAreNamed() throws {
    let names = segments(3...6) + segments(4...4)
    #expect(try !check(names, backup()).isRestorable)
    let conflicts = WALCheck.conflicts(inventory(names + ["00000002.history", "00000002.history"]))
    #expect(conflicts.map(\.name) == ["000000010000000000000004", "00000002.history"])
    #expect(conflicts.map(\.contents) == [2, 2])
    #expect(inventory(names + ["readme.txt", "0000000100000000000001FF"]).foreign.count == 2)
  }

  @Test func resumingAfterWhatThereIs() throws {
    let root = TimelineHistory(root: 1)
    func resume(_ names: [String], _ history: TimelineHistory) -> String? {
      WALResumePoint(inventory(names), to: history).map { "\($0.segment) \($0.durable)" }
    }
    #expect(resume([], root) == nil)
    #expect(resume(segments(3...5), root) == "000000010000000000000006 0/6000000")
    #expect(
      resume(segments(3...5) + ["000000010000000000000006.00000100.partial"], root)
        == "000000010000000000000006 0/6000100")
    #expect(resume(["000000010000000000000006.00000100.partial"], root) == "000000010000000000000006 0/6000100")
    let second = try TimelineHistory(parsing: "1\t0/6000100\tx\n", timeline: 2)
    // On the old timeline up to the fork, then on the new one from the segment that holds it.
    #expect(resume(segments(3...4), second) == "000000010000000000000005 0/5000000")
    #expect(resume(segments(3...5), second) == "000000010000000000000006 0/6000000")
    #expect(resume(segments(3...6), second) == "000000020000000000000006 0/6000100")
    #expect(
      resume(segments(3...5) + ["000000010000000000000006.00000100.partial"], second)
        == "000000020000000000000006 0/6000100")
    // Another branch's segments are not the way.
    #expect(resume(segments(3...9), second) == "000000020000000000000006 0/6000100")
    #expect(resume(segments(7...9), second) == nil)
    #expect(resume(segments(3...9) + segments(6...7, timeline: 2), second) == "000000020000000000000008 0/8000000")
    #expect(resume(segments(3...9, timeline: 2), root) == nil)
    let aligned = try TimelineHistory(parsing: "1\t0/6000000\tx\n", timeline: 2)
    #expect(resume(segments(3...5), aligned) == "000000020000000000000006 0/6000000")
  }

  // MARK: Of a server

  @Test func aRealArchive() async throws {
    try await WALFixture.withServer { server, folder in
      let tier = try await LocalTier(root: folder + "/repository", creating: true)
      let repository = Repository(tier: tier)
      let archive = try await WALFixture.archive(of: server, tier)
      let receiver = try RunningReceiver(archive, server)
      try await receiver.waitUntilDurable(try await WALFixture.position(server))
      var source = try BackupFixture.source(server)
      source.requiredWAL = .archived(archive, within: .seconds(60))
      let backup = try await BackupFixture.backUp(source, to: repository)
      try await WALFixture.write(server, megabytes: 6)
      let committed = try await server.query(
        "INSERT INTO ledger (filler) VALUES ('last') RETURNING extract(epoch FROM at)")
      let last = try #require(committed.single.flatMap { Double($0) })
      let end = try await WALFixture.position(server)
      try await receiver.waitUntilDurable(end)
      try await receiver.stop().get()

      var check = WALCheck(archive: archive, backups: [backup])
      // It finds the size of the segments by itself.
      check = WALCheck(
        archive: try WALArchive(
          tier: tier, component: archive.component, systemIdentifier: archive.systemIdentifier), backups: [backup])
      let report = try await check.report(logger: BackupFixture.logger)
      let entry = try #require(report.backups.first)
      #expect(entry.isRestorable && entry.gaps.isEmpty && entry.through >= end && report.conflicts.isEmpty)
      #expect(abs(try #require(entry.throughTime).timeIntervalSince1970 - last) < 2)
      #expect(report.findings.allSatisfy { $0.severity == .passed })

      // One segment behind the backup's end goes.
      let names = try await archive.inventory().segments.keys.sorted { $0.number < $1.number }
      let consistent = try #require(LSN(backup.recoveryPoint.position))
      let victim = try #require(names.last { $0.start > consistent && $0 != names.last })
      for object in try await tier.listAll(prefix: "") where object.key.rawValue.contains("\(victim)-") {
        try await tier.delete(object.key)
      }
      let torn = try await check.report(logger: BackupFixture.logger)
      let after = try #require(torn.backups.first)
      #expect(
        after.isRestorable && after.gaps == [WALGap(first: victim, last: victim)] && after.through == victim.start)
      #expect(torn.findings.contains { $0.check == "wal-gap" && $0.evidence.contains("\(victim)") })
    }
  }
}
