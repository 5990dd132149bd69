import DRCore
import DRPostgres
import DRStorage
import DRVerify
import ExampleSupport
import Foundation

/// PostgreSQL in the drill: a base backup with WAL streaming beside it, and point-in-time recovery.
actor PostgresDrill: DrillSystem {
  nonisolated let component: Component
  private var server: PostgresSandbox?
  private var restored: PostgresSandbox?
  private var receiver: Task<Void, any Error>?
  private var writers: PostgresLedger?
  private var archive: WALArchive?
  /// Of the tables that the ledger's writers do not touch.
  private var rowCounts: PostgresRowCounts?
  private var known: [LedgerEntry] = []

  /// The commits' own times are the drill's proof, before and after.
  private static let options = PostgresSandbox.Options(
    settings: ["track_commit_timestamp": "on", "max_wal_size": "2GB"])

  init() throws { component = try Component(.postgres, "drill") }

  // MARK: Before the disaster

  func start(_ run: DrillRun) async throws {
    try writeConfiguration(run)
    run.say(
      "starting a PostgreSQL server of the drill's own, and filling it with \(Format.bytes(run.command.size.bytes))")
    let server = try await run.measure(self, "start a server") {
      try await PostgresSandbox.create(PostgresDrill.options, logger: run.logger)
    }
    self.server = server
    try await run.measure(self, "fill it") {
      try await PostgresSampleData.fill(
        server.settings, bytes: run.command.size.bytes, seed: run.command.seed, logger: run.logger)
    }
    var rowCounts = try await PostgresRowCounts.count(server.settings, logger: run.logger)
    rowCounts.databases["postgres"]?["public.ledger"] = nil
    self.rowCounts = rowCounts
    // Before anything is written, as at night.
    try await dump(server.settings, run)
    let archive = try await WALArchive.of(
      server.settings, tier: run.repository.tier, component: component, encoding: run.encoding, decoding: run.decoding,
      logger: run.logger)
    self.archive = archive
    var receiving = WALReceiver.Options(slot: "dr_drill")
    receiving.partialInterval = .seconds(run.command.partialInterval)
    let receiver = try WALReceiver(archive: archive, server: server.settings, options: receiving, logger: run.logger)
    try await receiver.prepare(logger: run.logger)
    let logger = run.logger
    self.receiver = Task { try await receiver.follow(logger: logger) { _ in } }
    run.say("writing a ledger into PostgreSQL from \(run.command.connections) connections")
    writers = PostgresLedger(server.settings, connections: run.command.connections, logger: run.logger)
  }

  /// For `dr-wal`.
  private func writeConfiguration(_ run: DrillRun) throws {
    let settings = run.settings(for: component)
    try run.folder.write(String(decoding: JSONEncoder().encode(settings), as: UTF8.self), to: run.folder.configuration)
  }

  func backUp(_ run: DrillRun) async throws {
    guard let server, let archive else { return }
    var source = PostgresBaseBackup(component: component, server: server.settings, requiredWAL: .archived(archive))
    source.progress = ProgressBar("backup").handler
    let backup = source
    let manifest = try await run.measure(self, "base backup, WAL streaming beside it") {
      try await run.repository.backUp(backup, cadence: .daily, encoding: run.encoding, logger: run.logger)
    }
    run.say(
      "\(manifest.id) of PostgreSQL: \(Format.bytes(manifest.rawSize)) stored as \(Format.bytes(manifest.storedSize)), "
        + "\(manifest.properties["pagesChecked"]?.integer ?? 0) pages checked")
  }

  func betweenChanges(_ body: @escaping @Sendable () async throws -> Void) async throws {
    guard let writers else { return try await body() }
    try await writers.betweenCommits(body)
  }

  func destroy(_ run: DrillRun) async throws {
    guard let server, let writers else { return }
    try await server.kill()
    try FileManager.default.removeItem(atPath: server.dataFolder)
    await writers.stop()
    known = writers.ledger.entries
    receiver?.cancel()
    try await receiver?.value
    run.say("PostgreSQL had confirmed \(known.count) commits")
  }

  // MARK: After it

  func recover(to moment: Date, _ run: DrillRun) async throws {
    let place = run.folder.path + "/restored-to-target"
    let found = try await run.measure(self, "find the backup", counts: true) {
      try await run.settings(for: component).backup(in: run.repository, for: .time(moment))
    }
    // The repository may be elsewhere by now.
    try writeConfiguration(run)
    archive = try run.settings(for: component).archive(of: found, in: run.repository.tier)
    try await restore(found, to: .time(moment), place, counts: true, run)
    let restored = try await run.measure(self, "start, replay WAL, promote", counts: true) {
      try await PostgresSandbox.start(
        dataFolder: place, PostgresDrill.options, until: .promoted, limit: .seconds(3600), logger: run.logger)
    }
    self.restored = restored
    let rows = try await run.measure(self, "first right answer", counts: true) {
      try await PostgresLedger.read(restored.settings, logger: run.logger)
    }
    run.answered(self)
    let target = Int64((moment.timeIntervalSince1970 * 1_000_000).rounded())
    let comparison = LedgerComparison(known: known, found: rows, target: target)
    run.check(
      self, "every commit up to the target is there", comparison.missing.isEmpty && comparison.matching > 0,
      "\(comparison.matching) there, \(comparison.missing.count) missing")
    let after = known.filter { $0.committed > target }.count
    run.check(
      self, "no commit after the target is there", comparison.unexpected.isEmpty && after > 0,
      "\(comparison.unexpected.count) there of the \(after) that were made")
    run.check(self, "the restored server is harmless", try await restored.harmlessness(logger: run.logger))
    let probes = PostgresProbes.all(restored.settings, rowCounts: rowCounts ?? PostgresRowCounts(databases: [:]))
    let seen = try await run.measure(self, "probes: rows, keys, constraints, amcheck, a full dump") {
      try await probes.verify(logger: run.logger)
    }
    run.check(self, "probes of the restored server", seen)
    try await dropAndRecoverTable(
      restored.settings, from: found, to: moment, fetch: fetchCommand(run), archive, run)
    try await restoreDump(into: restored.settings, rowCounts, run)
    try await removeRestored(place)
  }

  func recoverLatest(_ run: DrillRun) async throws {
    let place = run.folder.path + "/restored-to-latest"
    let found = try await run.settings(for: component).backup(in: run.repository, for: .latest)
    try await restore(found, to: .latest, place, counts: false, run)
    let restored = try await run.measure(self, "start, replay all WAL, promote") {
      try await PostgresSandbox.start(
        dataFolder: place, PostgresDrill.options, until: .promoted, limit: .seconds(3600), logger: run.logger)
    }
    self.restored = restored
    let rows = try await PostgresLedger.read(restored.settings, logger: run.logger)
    let comparison = LedgerComparison(known: known, found: rows, target: nil)
    let newest = known.map(\.committed).max() ?? 0
    let recovered = rows.map(\.committed).max() ?? 0
    run.lost(
      .microseconds(max(0, newest - recovered)), "\(comparison.missing.count) of \(known.count) commits", self)
    // Whatever was lost must be the end of it: a hole before what came back would be worse than a loss.
    let holes = comparison.missing.filter { $0.committed < recovered - 1_000_000 }.count
    run.check(
      self, "nothing is missing before what came back", holes == 0 && comparison.matching > 0,
      "\(holes) holes in \(comparison.matching) commits")
    try await removeRestored(place)
  }

  private func restore(
    _ manifest: BackupManifest, to target: RecoveryTarget, _ place: String, counts: Bool, _ run: DrillRun
  ) async throws {
    let restorer = PostgresRestorer(
      dataFolder: place, recovery: RecoverySettings(restoreCommand: fetchCommand(run)), archive: archive,
      owner: run.folder.user?.name, progress: ProgressBar("restore").handler)
    let reader = run.repository.reader(for: manifest, decoding: run.decoding)
    _ = try await run.measure(self, "read, decrypt, check, write", counts: counts) {
      try await restorer.restore(from: reader, to: target, logger: run.logger)
    }
  }

  private func fetchCommand(_ run: DrillRun) -> String {
    "\(run.folder.program) fetch --config \(run.folder.configuration) %f %p"
  }

  private func removeRestored(_ place: String) async throws {
    try await restored?.remove()
    restored = nil
    try? FileManager.default.removeItem(atPath: place)
  }

  /// A verifier that was never seen to fail proves nothing: it must notice a copy with one flipped bit.
  func refuseDamage(_ run: DrillRun) async throws {
    let manifest = try await run.settings(for: component).backup(in: run.repository, for: .latest)
    let sound = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: run.repository, decoding: run.decoding), logger: run.logger)
    run.check(
      self, "the backup's bytes", sound.verdict == .passed,
      sound.obstacle ?? "\(sound.findings.filter { $0.severity == .passed }.count) findings passed")
    if let archive {
      let wal = try await WALCheck(archive: archive, backups: [manifest]).report(logger: run.logger)
      run.check(self, "the WAL archive", wal.findings)
    }
    let damaged = run.damaged(try manifest.artifact("base.tar"))
    let verdict = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: damaged, decoding: run.decoding), logger: run.logger)
    let finding = verdict.findings.first { $0.severity == .failure }
    run.check(
      self, "the verifier notices a flipped bit", verdict.verdict == .failed, finding?.evidence ?? "it noticed nothing")
    let place = run.folder.path + "/restored-damaged"
    do {
      _ = try await PostgresRestorer(
        dataFolder: place, recovery: RecoverySettings(restoreCommand: "false"), owner: run.folder.user?.name
      ).restore(from: damaged.reader(for: manifest, decoding: run.decoding), to: .latest, logger: run.logger)
      run.check(self, "the restore refuses it", false, "it restored a damaged backup")
    } catch let error as DRError {
      let left = FileManager.default.fileExists(atPath: place)
      run.check(self, "the restore refuses it", !left && error.code == .corruptData, error.message)
    }
  }

  func openingCommands(_ run: DrillRun) async throws -> [String] {
    let manifest = try await run.settings(for: component).backup(in: run.repository, for: .latest)
    let base = try manifest.artifact("base.tar")
    let open = run.isEncrypted ? "age -d -i \(run.folder.identity)" : "cat"
    let file = "\(run.folder.repository)/\(base.key)"
    return [
      "\(open) \(file) | zstd -d | tar tf - | head",
      "\(open) \(file) | zstd -d | sha256sum    # \(base.rawSHA256)",
      "sha256sum \(file)    # \(base.storedSHA256)",
      "find \(run.folder.repository)/postgres/wal -type f",
    ]
  }

  func close() async {
    receiver?.cancel()
    await writers?.stop()
    for sandbox in [server, restored].compactMap({ $0 }) { try? await sandbox.remove() }
  }
}
