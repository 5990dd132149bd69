import DRCore
import DRRedis
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// What is done after the disaster.
extension RedisDrill {
  func remember(_ memory: Data) throws {
    let memory = try JSONDecoder().decode(Memory.self, from: memory)
    (socket, known, samples) = (memory.socket, memory.known, memory.samples)
  }

  func look(_ logger: Logger) async throws -> String {
    try await RedisConnection.withConnection(RedisConnectionSettings(socket: socket), logger: logger) {
      try await $0.command("PING").text ?? ""
    }
  }

  func recover(to moment: Date, _ run: DrillRun) async throws {
    back = try await bringBack(to: moment, counts: true, run)
    run.answered(self)
  }

  func bringBack(to moment: Date, counts: Bool, _ run: DrillRun) async throws -> Back {
    let manifest = try await run.measure(self, "find the backup", counts: counts) {
      try await run.repository.catalog(of: component).backup(of: component, for: moment)
    }
    let restored = try await restore(manifest, to: .time(moment), counts: counts, run)
    let contents = try await run.measure(self, "first right answer", counts: counts) {
      try await RedisLedger.read(restored.settings, connections: run.options.connections, logger: run.logger)
    }
    return Back(server: restored, manifest: manifest, contents: contents)
  }

  func verify(_ moment: Date, _ run: DrillRun) async throws {
    let back: Back
    if let there = self.back { back = there } else { back = try await bringBack(to: moment, counts: false, run) }
    let (restored, manifest, contents) = (back.server, back.manifest, back.contents)
    let target = Int64((moment.timeIntervalSince1970 * 1_000_000).rounded())
    let comparison = LedgerComparison(known: known, found: contents.entries, target: target)
    run.check(
      self, "every transaction up to the target is there", comparison.missing.isEmpty && comparison.matching > 0,
      "\(comparison.matching) there, \(comparison.missing.count) missing")
    let after = known.filter { $0.committed > target }.count
    run.check(
      self, "no transaction after the target is there", comparison.unexpected.isEmpty && after > 0,
      "\(comparison.unexpected.count) there of the \(after) that were made")
    run.check(
      self, "no transaction is torn", contents.torn.isEmpty && contents.sessions > 0,
      "streams, hashes, strings and times to live agree for \(contents.sessions) of \(run.options.connections) writers")
    run.check(self, "the restored server is harmless", try await restored.harmlessness(logger: run.logger))
    let probes = RedisProbes(restored.settings, manifest: manifest, includesChanges: true, samples: samples)
    let seen = try await run.measure(self, "probes: counts, types, samples, hits, memory") {
      try await probes.verify(logger: run.logger)
    }
    run.check(self, "probes of the restored server", seen)
    // What was restored must not be lost by the next crash.
    try await restored.kill()
    try await restored.start()
    let again = try await RedisLedger.read(
      restored.settings, connections: run.options.connections, logger: run.logger)
    run.check(
      self, "it survives kill -9 after the restore", Set(again.entries) == Set(contents.entries),
      "\(again.entries.count) transactions of \(contents.entries.count)")
    try await removeRestored()
  }

  func recoverLatest(_ run: DrillRun) async throws {
    let manifest = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let restored = try await restore(manifest, to: .latest, counts: false, run)
    let contents = try await RedisLedger.read(
      restored.settings, connections: run.options.connections, logger: run.logger)
    let comparison = LedgerComparison(known: known, found: contents.entries, target: nil)
    let newest = known.map(\.committed).max() ?? 0
    let recovered = contents.entries.map(\.committed).max() ?? 0
    let commands = comparison.missing.count * RedisLedger.commandsInTransaction
    run.lost(
      .microseconds(max(0, newest - recovered)),
      "\(comparison.missing.count) of \(known.count) transactions (\(commands) commands)", self)
    // Each writer waits for an answer before it goes on: what is there of it is all up to some number.
    let holes = Dictionary(grouping: contents.entries, by: \.writer).values.reduce(0) { sum, entries in
      sum + (entries.map(\.sequence).max() ?? 0) - Set(entries.map(\.sequence)).count
    }
    run.check(
      self, "nothing is missing before what came back",
      holes == 0 && comparison.matching > 0 && contents.torn.isEmpty,
      "\(holes) holes in \(comparison.matching) transactions, \(contents.torn.count) torn")
    try await removeRestored()
  }

  func restore(
    _ manifest: BackupManifest, to target: RecoveryTarget, counts: Bool, _ run: DrillRun
  ) async throws -> RedisSandbox {
    try await removeRestored()
    let restored = try await run.measure(self, "start an empty server", counts: counts) {
      try await RedisSandbox.create(RedisDrill.options, logger: run.logger)
    }
    self.restored = restored
    var restorer = RedisOnlineRestorer(server: restored.settings, archive: archive(run))
    restorer.progress = ProgressBar("redis").handler
    let online = restorer
    _ = try await run.measure(self, "check, serve, replay, promote, on its disk", counts: counts) {
      try await online.restore(
        from: run.repository.reader(for: manifest, decoding: run.decoding), to: target, logger: run.logger)
    }
    return restored
  }

  func removeRestored() async throws {
    try await restored?.remove()
    (restored, back) = (nil, nil)
  }

  func refuseDamage(_ run: DrillRun) async throws {
    let catalog = try await run.repository.catalog(of: component)
    let manifest = try catalog.backup(of: component, for: .latest)
    run.check(
      self, "the change log",
      try await RedisLogCheck(archive: archive(run), backups: catalog.backups).verify(logger: run.logger))
    let target = try await RedisSandbox.create(RedisDrill.options, logger: run.logger)
    restored = target
    try await run.control(self, of: manifest, damaging: try manifest.artifact("dump.rdb")) { reader in
      _ = try await RedisOnlineRestorer(server: target.settings)
        .restore(from: reader, to: .immediate, logger: run.logger)
    } isUntouched: {
      try await target.command("DBSIZE").integer == 0
    }
    try await removeRestored()
  }
}
