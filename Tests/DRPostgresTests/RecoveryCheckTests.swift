import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import Logging
import NIOCore
import Testing

/// What the check says of a target before a restore, and what a real server then makes of that target.
@Suite(.serialized) struct RecoveryCheckTests {
  /// A backup of a server that is gone, and the WAL from before it to long after it.
  private struct Archived {
    let folder: String
    let repository: Repository
    let archive: WALArchive
    let backup: BackupManifest
    /// Rows of the ledger at the restore point `noon`, and its position.
    let rowsAtNoon: String?
    let noon: LSN
    /// Two moments on the server's clock, each between two commits: soon after noon, and near the end.
    let soon: Date
    let late: Date
    let rowsAtTheEnd: String?
    let owner: String?

    func check(
      _ target: RecoveryTarget, timeline: RecoverySettings.Timeline? = nil, inclusive: Bool = true
    ) async throws -> RecoveryReach {
      try await RecoveryCheck(archive: archive, timeline: timeline, inclusive: inclusive)
        .check(backup, reaches: target, logger: BackupFixture.logger)
    }

    /// What the check refuses, the restore refuses too, and has not touched anything.
    func refusal(
      of target: RecoveryTarget, timeline: RecoverySettings.Timeline? = nil, inclusive: Bool = true,
      _ location: SourceLocation = #_sourceLocation
    ) async throws -> DRError {
      let place = "\(folder)/refused"
      let error = await #expect(throws: DRError.self, sourceLocation: location) {
        _ = try await PostgresRestorer(
          dataFolder: place,
          recovery: RecoverySettings(restoreCommand: "false", timeline: timeline, inclusive: inclusive),
          archive: archive
        ).restore(from: repository.reader(for: backup), to: target, logger: BackupFixture.logger)
      }
      #expect(!FileManager.default.fileExists(atPath: place), "something was written", sourceLocation: location)
      return try #require(error, sourceLocation: location)
    }

    /// Restores, starts a real server, and gives the rows of the ledger. Without the check, unless told so.
    func recover(
      to target: RecoveryTarget, checked: Bool = false, timeline: RecoverySettings.Timeline? = nil,
      inclusive: Bool = true
    ) async throws -> String? {
      let place = "\(folder)/recovered-\(UUID().uuidString)"
      let plain = try await WALFixture.plainFiles(of: archive, in: folder)
      let recovery = RecoverySettings(
        restoreCommand: "cp \(plain)/%f %p", timeline: timeline, action: .promote, inclusive: inclusive)
      _ = try await PostgresRestorer(
        dataFolder: place, recovery: recovery, archive: checked ? archive : nil, owner: owner
      ).restore(from: repository.reader(for: backup), to: target, logger: BackupFixture.logger)
      let server = try await PostgresSandbox.start(
        dataFolder: place, WALFixture.server(), until: .promoted, limit: .seconds(60), logger: BackupFixture.logger)
      return try await PostgresSandbox.with(server) { server in
        try await server.query("SELECT count(*) FROM ledger").single
      }
    }

    func remove(_ segment: WALSegmentName) async throws {
      for object in try await repository.tier.listAll(prefix: "")
      where object.key.lastComponent.hasPrefix("\(segment)") {
        try await repository.tier.delete(object.key)
      }
    }

    /// The full segments behind the end of the backup.
    func segmentsBehind() async throws -> [WALSegmentName] {
      let consistent = try #require(LSN(backup.recoveryPoint.position))
      return try await archive.inventory().segments.keys.filter { $0.start > consistent }
        .sorted { $0.number < $1.number }
    }
  }

  private func withArchived(_ body: (Archived) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in
      chmod(folder, 0o711)
      let repository = Repository(tier: try await LocalTier(root: folder + "/repository", creating: true))
      let archived = try await PostgresSandbox.withSandbox(WALFixture.server(), logger: BackupFixture.logger) {
        server in
        try await server.query(
          "CREATE TABLE ledger (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), filler text)")
        let archive = try await WALFixture.archive(of: server, repository.tier)
        let receiver = try RunningReceiver(archive, server)
        try await receiver.waitUntilDurable(try await WALFixture.position(server))
        var source = try BackupFixture.source(server)
        source.requiredWAL = .archived(archive, within: .seconds(60))
        let backup = try await BackupFixture.backUp(source, to: repository)
        try await WALFixture.write(server)
        let rows = try await server.query("SELECT count(*) FROM ledger").single
        let noon = try await server.query("SELECT pg_create_restore_point('noon')").single.flatMap { LSN($0) }
        let soon = try await WALFixture.moment(server)
        try await WALFixture.write(server, megabytes: 3)
        let late = try await WALFixture.moment(server)
        try await WALFixture.write(server)
        let all = try await server.query("SELECT count(*) FROM ledger").single
        try await receiver.waitUntilDurable(try await WALFixture.position(server))
        try await receiver.stop().get()
        return Archived(
          folder: folder, repository: repository, archive: archive, backup: backup, rowsAtNoon: rows,
          noon: try #require(noon), soon: soon, late: late, rowsAtTheEnd: all, owner: server.user?.name)
      }
      try await body(archived)
    }
  }

  @Test("Targets that the WAL reaches pass, and a server goes there; those beyond are refused, and a server stops")
  func beyond() async throws {
    try await withArchived { archived in
      let reach = try await archived.check(.latest)
      #expect(reach.gaps.isEmpty && reach.timelines == [1])
      for target in [.immediate, .name("noon"), .time(archived.soon), .time(archived.late)] as [RecoveryTarget] {
        _ = try await archived.check(target)
      }
      #expect(try await archived.recover(to: .immediate, checked: true) == "0")
      #expect(try await archived.recover(to: .name("noon"), checked: true) == archived.rowsAtNoon)
      #expect(try await archived.recover(to: .time(archived.soon), checked: true) == archived.rowsAtNoon)

      // The last record is the last position there is: to the byte.
      let last = try #require(reach.lastPosition)
      #expect(try await archived.recover(to: .position("\(last)"), checked: true) == archived.rowsAtTheEnd)
      let beyond = RecoveryTarget.position("\(LSN(last.rawValue + 1))")
      let position = try await archived.refusal(of: beyond)
      #expect(position.code == .targetUnreachable && position.object == archived.backup.id)
      #expect(position.message.contains("no WAL is there from \(LSN(last.rawValue + 1)) on"), "\(position)")
      let stopped = await #expect(throws: DRError.self) { try await archived.recover(to: beyond) }
      #expect(stopped?.message.contains("recovery ended before configured recovery target was reached") == true)

      // The newest commit is the last moment: a server stops at the first commit behind the target, to the microsecond.
      let ended = try await archived.refusal(of: .time(archived.late.addingTimeInterval(3600)))
      #expect(ended.code == .targetUnreachable && ended.message.contains("its newest commit is of"), "\(ended)")
      let newest = try #require(try await archived.check(.time(archived.late)).throughTime)
      #expect(ended.message.contains(Timestamp.postgres(newest)), "\(ended)")
      _ = try await archived.check(.time(newest.addingTimeInterval(-0.000_002)))
      _ = try await archived.check(.time(newest), inclusive: false)
      _ = try await archived.refusal(of: .time(newest.addingTimeInterval(0.000_001)))
      let late = await #expect(throws: DRError.self) {
        try await archived.recover(to: .time(newest.addingTimeInterval(0.000_001)))
      }
      #expect(late?.message.contains("recovery ended before configured recovery target was reached") == true)

      let name = try await archived.refusal(of: .name("midnight"))
      #expect(name.code == .targetUnreachable && name.message.contains("no restore point 'midnight'"), "\(name)")
      #expect(name.advice?.contains("noon") == true, "the others are named")
      for timeline in [RecoverySettings.Timeline.id(7), .id(2)] {
        let unknown = try await archived.refusal(of: .latest, timeline: timeline)
        #expect(unknown.code == .targetUnreachable && unknown.message.contains("knows no timeline"), "\(unknown)")
      }
      let nowhere = await #expect(throws: DRError.self) { try await archived.recover(to: .latest, timeline: .id(7)) }
      #expect(nowhere?.message.contains("recovery target timeline 7 does not exist") == true)
      let before = try await archived.refusal(of: .time(archived.backup.recoveryPoint.time.addingTimeInterval(-1)))
      #expect(before.code == .targetUnreachable && before.message.contains("becomes consistent only after"))
    }
  }

  @Test("A gap is named, with how far a recovery could go; there a real server goes")
  func gap() async throws {
    try await withArchived { archived in
      let victim = try await archived.segmentsBehind().dropFirst(2).first
      let lost = try #require(victim)
      try await archived.remove(lost)
      let error = try await archived.refusal(of: .latest)
      #expect(error.code == .targetUnreachable)
      #expect(error.message.contains("missing \(lost) (1 segment)"), "\(error)")
      #expect(error.message.contains("goes through \(lost.start), its newest commit is of "), "\(error)")
      _ = try await archived.refusal(of: .time(archived.late))
      _ = try await archived.refusal(of: .position("\(LSN(lost.start.rawValue + 1000))"))

      // What lies before the gap is reached, and as far as the error says.
      #expect(try await archived.check(.name("noon")).gaps == [WALGap(first: lost, last: lost)])
      #expect(try await archived.recover(to: .time(archived.soon), checked: true) == archived.rowsAtNoon)
      let match = try #require(error.advice?.firstMatch(of: /position ([0-9A-F]+\/[0-9A-F]+) as target/))
      let rows = try await archived.recover(to: .position(String(match.1)), checked: true)
      let count = try #require(rows.flatMap { Int($0) })
      #expect(count > Int(archived.rowsAtNoon ?? "") ?? .max && count < Int(archived.rowsAtTheEnd ?? "") ?? 0)

      // The WAL that makes the backup consistent.
      let needed = WALSegmentName(
        timeline: 1, holding: try #require(LSN(archived.backup.recoveryPoint.position)),
        segmentSize: archived.archive.segmentSize)
      try await archived.remove(needed)
      let useless = try await archived.refusal(of: .immediate)
      #expect(useless.code == .targetUnreachable && useless.message.contains("before it is consistent"), "\(useless)")
      #expect(useless.message.contains("missing \(needed)"), "\(useless)")
    }
  }

  @Test("A damaged last segment, two contents under one name, an archive that is away or another cluster's")
  func damage() async throws {
    try await withArchived { archived in
      let segments = try await archived.segmentsBehind()
      let inventory = try await archived.archive.inventory()
      // Only full ones, so that the last one is full.
      for partial in inventory.partials.keys { try await archived.remove(partial) }
      let last = try #require(segments.last)
      let objects = try await archived.repository.tier.listAll(prefix: "")
      let object = try #require(objects.first { $0.key.lastComponent.hasPrefix("\(last)") })
      let damaged = try WALArchive(
        tier: DamagedTier(archived.repository.tier, damaging: object.key, at: object.size / 2),
        component: archived.archive.component, systemIdentifier: archived.archive.systemIdentifier)
      let refused = await #expect(throws: DRError.self) {
        _ = try await RecoveryCheck(archive: damaged).check(
          archived.backup, reaches: .latest, logger: BackupFixture.logger)
      }
      #expect(refused?.code == .targetUnreachable && refused?.message.contains("\(last) cannot be used") == true)
      try await RecoveryCheck(archive: damaged).check(
        archived.backup, reaches: .time(archived.soon), logger: BackupFixture.logger)

      // Another server wrote the same segment.
      let twin = object.key.rawValue.replacing(/-[0-9a-f]{64}/, with: "-" + String(repeating: "0", count: 64))
      _ = try await archived.repository.tier.put(
        ObjectKey(twin), archived.repository.tier.get(object.key, range: nil), PutOptions())
      let conflict = try await archived.refusal(of: .latest)
      #expect(conflict.code == .targetUnreachable && conflict.message.contains("two different contents of \(last)"))
      try await archived.repository.tier.delete(ObjectKey(twin))
      _ = try await archived.check(.latest)

      let other = try WALArchive(
        tier: archived.repository.tier, component: archived.archive.component, systemIdentifier: "4711")
      let foreign = await #expect(throws: DRError.self) {
        _ = try await RecoveryCheck(archive: other).check(
          archived.backup, reaches: .latest, logger: BackupFixture.logger)
      }
      #expect(foreign?.code == .targetUnreachable && foreign?.message.contains("4711") == true)

      // "Cannot look" is another error than "not reached".
      try FileManager.default.moveItem(atPath: archived.folder + "/repository", toPath: archived.folder + "/away")
      let away = await #expect(throws: DRError.self) { _ = try await archived.check(.latest) }
      #expect(away?.code == .tierUnavailable)
    }
  }

  @Test("After a promotion elsewhere: a backup from behind the fork does not lead to the latest timeline")
  func branches() async throws {
    try await withArchived { archived in
      let consistent = try #require(LSN(archived.backup.recoveryPoint.position))
      func fork(at position: LSN) async throws {
        try await archived.archive.push(
          "00000002.history", .init(string: "1\t\(position)\tbefore 2026-11-24 00:00:00+00\n"))
      }
      let start = try #require(archived.backup.changesFrom.flatMap { LSN($0.position) })
      #expect(start < consistent)
      try await fork(at: LSN(start.rawValue - 8))
      let error = try await archived.refusal(of: .latest)
      #expect(error.code == .targetUnreachable)
      #expect(error.message.contains("timeline 2 does not come from this backup"), "\(error)")
      #expect(error.advice?.contains("follow timeline 1") == true)
      let stopped = await #expect(throws: DRError.self) { try await archived.recover(to: .latest) }
      #expect(
        stopped?.message.contains("requested timeline 2 is not a child of this server's history") == true,
        "\(stopped?.description ?? "")")
      // As advised; and a choice among backups passes over this one.
      #expect(try await archived.recover(to: .latest, checked: true, timeline: .id(1)) == archived.rowsAtTheEnd)
      for (timeline, count) in [(RecoverySettings.Timeline?.none, 0), (.current, 1), (.id(1), 1), (.id(3), 0)] {
        let leading = try await RecoveryCheck(archive: archived.archive, timeline: timeline)
          .leading([archived.backup], to: .latest)
        #expect(leading.count == count)
      }
    }
  }
}
