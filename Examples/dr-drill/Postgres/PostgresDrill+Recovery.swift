import DRCore
import DRPostgres
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// What is done after the disaster.
extension PostgresDrill {
  func remember(_ memory: Data) throws {
    let memory = try JSONDecoder().decode(Memory.self, from: memory)
    (address, known, rowCounts) = (memory.address, memory.known, memory.rowCounts)
  }

  func look(_ logger: Logger) async throws -> String {
    let settings = PostgresConnectionSettings(
      host: address.host, port: address.port, user: PostgresDrill.options.superuser, database: "postgres",
      sslMode: .disable)
    return try await PostgresConnection.withConnection(settings, logger: logger) {
      "answers \(try await $0.query("SELECT 1").single ?? "")"
    }
  }

  func recover(to moment: Date, _ run: DrillRun) async throws {
    back = try await bringBack(to: moment, counts: true, run)
    run.answered(self)
  }

  func bringBack(to moment: Date, counts: Bool, _ run: DrillRun) async throws -> Back {
    let place = place("at-target", run)
    try await removeRestored(place)
    let found = try await run.measure(self, "find the backup", counts: counts) {
      try await run.settings(for: component).backup(in: run.repository, for: .time(moment))
    }
    try await restore(found, to: .time(moment), place, counts: counts, run)
    let restored = try await run.measure(self, "start, replay WAL, promote", counts: counts) {
      try await PostgresSandbox.start(
        dataFolder: place, PostgresDrill.options, until: .promoted, limit: .seconds(3600), logger: run.logger)
    }
    self.restored = restored
    let rows = try await run.measure(self, "first right answer", counts: counts) {
      try await PostgresLedger.read(restored.settings, logger: run.logger)
    }
    return Back(server: restored, place: place, manifest: found, rows: rows)
  }

  func verify(_ moment: Date, _ run: DrillRun) async throws {
    let back: Back
    if let there = self.back { back = there } else { back = try await bringBack(to: moment, counts: false, run) }
    let (restored, rows) = (back.server, back.rows)
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
      restored.settings, from: back.manifest, to: moment, fetch: fetchCommand(run), archive, run)
    try await restoreDump(into: restored.settings, rowCounts, run)
    try await removeRestored(back.place)
  }

  func recoverLatest(_ run: DrillRun) async throws {
    let place = place("latest", run)
    try await removeRestored(place)
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

  func restore(
    _ manifest: BackupManifest, to target: RecoveryTarget, _ place: String, counts: Bool, _ run: DrillRun
  ) async throws {
    // The repository may be elsewhere by now, and this another process.
    try writeConfiguration(run)
    archive = try run.settings(for: component).archive(of: manifest, in: run.repository.tier)
    let restorer = PostgresRestorer(
      dataFolder: place, recovery: RecoverySettings(restoreCommand: fetchCommand(run)), archive: archive,
      owner: run.folder.user?.name, progress: ProgressBar("restore").handler)
    let reader = run.repository.reader(for: manifest, decoding: run.decoding)
    _ = try await run.measure(self, "read, decrypt, check, write", counts: counts) {
      try await restorer.restore(from: reader, to: target, logger: run.logger)
    }
  }

  func fetchCommand(_ run: DrillRun) -> String {
    "\(run.folder.program) fetch --config \(run.folder.configuration) %f %p"
  }

  func removeRestored(_ place: String) async throws {
    try await restored?.remove()
    (restored, back) = (nil, nil)
    try clear(place)
  }

  func refuseDamage(_ run: DrillRun) async throws {
    let manifest = try await run.settings(for: component).backup(in: run.repository, for: .latest)
    guard let archive = try run.settings(for: component).archive(of: manifest, in: run.repository.tier) else {
      throw DRError(.malformedData, "the backup does not name its cluster", object: "\(manifest.id)")
    }
    let wal = try await WALCheck(archive: archive, backups: [manifest]).report(logger: run.logger)
    run.check(self, "the WAL archive", wal.findings)
    let place = place("damaged", run)
    try clear(place)
    try await run.control(self, of: manifest, damaging: try manifest.artifact("base.tar")) { reader in
      _ = try await PostgresRestorer(
        dataFolder: place, recovery: RecoverySettings(restoreCommand: "false"), owner: run.folder.user?.name
      ).restore(from: reader, to: .latest, logger: run.logger)
    } isUntouched: {
      !FileManager.default.fileExists(atPath: place)
    }
  }
}
