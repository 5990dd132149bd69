import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// Archives into which more than one server has written: production, and a copy of it that was promoted.
@Suite(.serialized) struct RecoveryBranchTests {
  private struct Branched {
    let folder: String
    let repository: Repository
    let archive: WALArchive
    let backup: BackupManifest
    /// A moment before the fork, one between production's first commits behind it, one before the copy's first commit, and one
    /// between the copy's.
    let before: Date
    let lived: Date
    let forked: Date
    let during: Date
    let owner: String?
    let productionRows: String?
    let copyRows: String?

    func check(_ target: RecoveryTarget, timeline: RecoverySettings.Timeline? = nil) async throws -> RecoveryReach {
      try await RecoveryCheck(archive: archive, timeline: timeline)
        .check(backup, reaches: target, logger: BackupFixture.logger)
    }

    func refusal(_ target: RecoveryTarget, timeline: RecoverySettings.Timeline? = nil) async throws -> DRError {
      try #require(
        await #expect(throws: DRError.self) { _ = try await check(target, timeline: timeline) } as DRError?)
    }

    /// What a real server recovers to.
    func rows(timeline: RecoverySettings.Timeline?, _ target: RecoveryTarget = .latest) async throws -> String? {
      try await with(timeline, target) { try await $0.query("SELECT count(*) FROM ledger").single }
    }

    func with<R>(
      _ timeline: RecoverySettings.Timeline?, _ target: RecoveryTarget, _ body: (PostgresSandbox) async throws -> R
    ) async throws -> R {
      try await RecoveryBranchTests.recovered(
        backup, archive, repository, folder, target, timeline, owner, checked: true, body)
    }

    func findings() async throws -> [Finding] {
      try await WALCheck(archive: archive, backups: [backup]).verify(logger: BackupFixture.logger)
        .filter { $0.check == "wal-timeline" }
    }
  }

  private static func recovered<R>(
    _ backup: BackupManifest, _ archive: WALArchive, _ repository: Repository, _ folder: String,
    _ target: RecoveryTarget, _ timeline: RecoverySettings.Timeline?, _ owner: String?, checked: Bool,
    _ body: (PostgresSandbox) async throws -> R
  ) async throws -> R {
    let plain = try await WALFixture.plainFiles(of: archive, in: folder)
    let place = "\(folder)/recovered-\(UUID().uuidString)"
    _ = try await PostgresRestorer(
      dataFolder: place, recovery: RecoverySettings(restoreCommand: "cp \(plain)/%f %p", timeline: timeline),
      archive: checked ? archive : nil, owner: owner
    ).restore(from: repository.reader(for: backup), to: target, logger: BackupFixture.logger)
    let server = try await PostgresSandbox.start(
      dataFolder: place, WALFixture.server(), until: .promoted, limit: .seconds(60), logger: BackupFixture.logger)
    return try await PostgresSandbox.with(server, body)
  }

  /// Production, and a copy that is recovered to the restore point `fork`, promoted, and archives into the same place.
  ///
  /// - Parameters:
  ///   - productionEnds: Production writes no more once the copy is there.
  ///   - productionRests: It writes nothing between the fork and the end of the copy.
  private func withBranches(
    productionEnds: Bool = false, productionRests: Bool = false, _ body: (Branched) async throws -> Void
  ) async throws {
    // Nothing commits but the test.
    try await WALFixture.withServer(["autovacuum": "off"]) { server, folder in
      let repository = Repository(tier: try await LocalTier(root: folder + "/repository", creating: true))
      let archive = try await WALFixture.archive(of: server, repository.tier)
      let receiver = try RunningReceiver(archive, server)
      try await receiver.waitUntilDurable(try await WALFixture.position(server))
      var source = try BackupFixture.source(server)
      source.requiredWAL = .archived(archive, within: .seconds(60))
      let backup = try await BackupFixture.backUp(source, to: repository)
      try await WALFixture.write(server)
      let before = try await WALFixture.moment(server)
      try await WALFixture.write(server)
      // The server writes the point out by itself, and a little later: no commit behind it does.
      let fork = try await server.query("SELECT pg_create_restore_point('fork')").single
      let point = try #require(fork.flatMap { LSN($0) })
      if !productionRests { try await WALFixture.write(server) }
      let lived = try await WALFixture.moment(server)
      if !productionRests { try await WALFixture.write(server) }
      let forked = try await WALFixture.moment(server)
      try await receiver.waitUntilDurable(max(point, try await WALFixture.position(server)))
      let (during, copyRows) = try await Self.recovered(
        backup, archive, repository, folder, .name("fork"), nil, server.user?.name, checked: false
      ) { copy in
        let second = try RunningReceiver(archive, copy, WALFixture.options { $0.slot = "dr_copy" })
        try await WALFixture.write(copy)
        let during = try await WALFixture.moment(copy)
        try await copy.query("SELECT pg_create_restore_point('deploy'), pg_create_restore_point('oncopy')")
        try await WALFixture.write(copy)
        let rows = try await copy.query("SELECT count(*) FROM ledger").single
        try await second.waitUntilDurable(try await WALFixture.position(copy))
        try await second.stop().get()
        return (during, rows)
      }
      if !productionEnds {
        try await server.query("SELECT pg_create_restore_point('deploy'), pg_create_restore_point('onproduction')")
        try await WALFixture.write(server, megabytes: 3)
      }
      let rows = try await server.query("SELECT count(*) FROM ledger").single
      try await receiver.waitUntilDurable(try await WALFixture.position(server))
      try await receiver.stop().get()
      try await body(
        Branched(
          folder: folder, repository: repository, archive: archive, backup: backup, before: before, lived: lived,
          forked: forked,
          during: during, owner: server.user?.name, productionRows: rows, copyRows: copyRows))
    }
  }

  @Test("A copy that archives beside production: which timeline is meant has to be said, and is shown")
  func rival() async throws {
    try await withBranches { branched in
      for target in [RecoveryTarget.latest, .time(branched.lived), .time(branched.forked), .time(branched.during)] {
        let error = try await branched.refusal(target)
        #expect(error.code == .targetAmbiguous, "\(target): \(error)")
        #expect(error.advice?.contains("--timeline 1 or --timeline 2") == true, "\(error)")
      }
      // Where both are the same, there is no doubt.
      #expect(try await branched.check(.time(branched.before)).timelines == [1, 2])
      // The newest is not the name of one.
      #expect(try await branched.refusal(.latest, timeline: .latest).code == .targetAmbiguous)
      #expect(try await branched.rows(timeline: .id(1)) == branched.productionRows)
      #expect(try await branched.rows(timeline: .id(2)) == branched.copyRows)

      let production = try await branched.check(.latest, timeline: .id(1))
      let copy = try await branched.check(.latest, timeline: .id(2))
      let fork = try await branched.archive.history(of: 2).end(of: 1)
      let forked = try #require(fork)
      // One that both have, and one that is from before.
      let shared = LSN(forked.rawValue + 65536)
      #expect(shared < production.through && shared < copy.through)
      #expect(try await branched.refusal(.position("\(shared)")).code == .targetAmbiguous)
      _ = try await branched.check(.position("\(LSN(forked.rawValue - 4096))"))
      // Behind the end of the copy, production's timeline is named.
      let beyond = try await branched.refusal(.time(Date().addingTimeInterval(-0.001)))
      #expect(beyond.code == .targetUnreachable && beyond.advice?.contains("--timeline 1") == true, "\(beyond)")

      let finding = try #require(try await branched.findings().first)
      #expect(
        finding.severity == .failure && finding.evidence.contains("timeline 1 recovers through \(production.through)"))
      #expect(finding.evidence.contains("two servers have archived here"), "\(finding)")
      let chosen = try await WALCheck(archive: branched.archive, backups: [branched.backup], timeline: 1)
        .report(logger: BackupFixture.logger)
      #expect(chosen.findings.allSatisfy { $0.severity < .warning }, "\(chosen.findings)")
      #expect(chosen.backups.first?.through == production.through)
      let unknown = await #expect(throws: DRError.self) {
        _ = try await WALCheck(archive: branched.archive, backups: [branched.backup], timeline: 9)
          .report(logger: BackupFixture.logger)
      }
      #expect(unknown?.message == "the archive knows no timeline 9")
    }
  }

  @Test("Production was quiet while a copy wrote: its moments are not taken for production's")
  func quiet() async throws {
    try await withBranches(productionRests: true) { branched in
      for target in [RecoveryTarget.latest, .time(branched.during), .name("deploy")] {
        #expect(try await branched.refusal(target).code == .targetAmbiguous, "\(target)")
      }
      // Both are still the same then, and a name that only one of them has is no doubt.
      #expect(try await branched.check(.time(branched.forked)).timelines == [1, 2])
      #expect(try await branched.check(.name("oncopy")).timelines == [1, 2])
      let other = try await branched.refusal(.name("onproduction"))
      #expect(other.code == .targetUnreachable && other.advice?.contains("--timeline 1") == true, "\(other)")
      _ = try await branched.check(.name("onproduction"), timeline: .id(1))
      _ = try await branched.check(.name("deploy"), timeline: .id(1))
    }
  }

  @Test("A history that is missing would leave a recovery on the wrong timeline without a word: it is named")
  func missingHistory() async throws {
    try await withBranches(productionEnds: true) { branched in
      for object in try await branched.repository.tier.listAll(prefix: "")
      where object.key.lastComponent.hasPrefix("00000002.history") {
        try await branched.repository.tier.delete(object.key)
      }
      for target in [RecoveryTarget.latest, .time(branched.before)] {
        let error = try await branched.refusal(target)
        #expect(
          error.code == .targetUnreachable && error.message.contains("00000002.history is not in the archive"),
          "\(error)")
      }
      _ = try await branched.check(.latest, timeline: .id(1))
      let findings = try await WALCheck(archive: branched.archive, backups: [branched.backup])
        .verify(logger: BackupFixture.logger)
      #expect(
        findings.contains { $0.check == "wal-history" && $0.severity == .failure && $0.subject == "00000002.history" },
        "\(findings)")
    }
  }

  @Test(
    "After a promotion the newest timeline is followed; a moment at which only the former was written to is not lost")
  func promotion() async throws {
    try await withBranches(productionEnds: true) { branched in
      #expect(try await branched.rows(timeline: nil) == branched.copyRows)
      #expect(try await branched.check(.time(branched.during)).timelines == [1, 2])
      // Between the two nothing was written; a recovery goes to the fork.
      #expect(try await branched.check(.time(branched.forked)).timelines == [1, 2])
      // The new timeline's first commit came later: a recovery on it would stop at the fork, before this moment.
      let error = try await branched.refusal(.time(branched.lived))
      #expect(error.code == .targetAmbiguous && error.advice?.contains("--timeline 1") == true, "\(error)")
      let finding = try #require(try await branched.findings().first)
      #expect(finding.severity == .notice && finding.evidence.contains("timeline 1 recovers through"), "\(finding)")
    }
  }
}
