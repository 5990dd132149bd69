import DRCore
import DRRedis
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// Redis in the drill: a change log that takes its own snapshot, one more snapshot under load, and a restore into a running
/// server.
actor RedisDrill: DrillSystem {
  nonisolated let component: Component
  private var server: RedisSandbox?
  private var restored: RedisSandbox?
  private var follower: Task<Void, any Error>?
  private var writers: RedisLedger?
  private var samples: RedisSamples?
  private var known: [LedgerEntry] = []
  private var logger = Logger(label: "dr-drill")
  /// Through which offset everything is durable.
  private let durable = MutableBox<Int64>(-1)

  /// As the plan sets Redis up.
  private static let options = RedisSandbox.Options(settings: ["appendfsync": "everysec"], appendOnly: true)

  init() throws { component = try Component(.redis, "drill") }

  private func archive(_ run: DrillRun) -> RedisLogArchive {
    RedisLogArchive(
      tier: run.repository.tier, component: component, encoding: run.encoding, decoding: run.decoding)
  }

  // MARK: Before the disaster

  func start(_ run: DrillRun) async throws {
    logger = run.logger
    let bytes = run.command.size.bytes / 4
    run.say("starting a Redis server of the drill's own, and filling it with \(Format.bytes(bytes))")
    let server = try await run.measure(self, "start a server") {
      try await RedisSandbox.create(RedisDrill.options, logger: run.logger)
    }
    self.server = server
    try await run.measure(self, "fill it") { try await RedisSampleData.fill(server.settings, bytes: bytes, run.logger) }
    samples = try await RedisSamples.take(server.settings, logger: run.logger)
    var options = RedisChangeLog.Options()
    options.partialInterval = .seconds(min(0.5, run.command.partialInterval))
    let began = MutableBox(false)
    let log = try RedisChangeLog(
      archive: archive(run), server: server.settings, options: options, logger: run.logger,
      onEvent: { if case .snapshot = $0 { began.withLock { $0 = true } } })
    let (logger, durable) = (run.logger, durable)
    follower = Task {
      try await log.follow(logger: logger) { point in durable.withLock { $0 = Int64(point.position) ?? -1 } }
    }
    try await run.measure(self, "the change log's own snapshot") {
      try await withTimeLimit(.seconds(600), "the first snapshot of Redis") {
        while !began.value { try await Task.sleep(for: .milliseconds(20)) }
      }
    }
    run.say("writing a ledger into Redis from \(run.command.connections) connections")
    writers = RedisLedger(server.settings, connections: run.command.connections, logger: run.logger)
  }

  func backUp(_ run: DrillRun) async throws {
    guard let server else { return }
    var source = RedisSnapshot(component: component, server: server.settings)
    source.progress = ProgressBar("redis").handler
    let snapshot = source
    let manifest = try await run.measure(self, "snapshot, changes followed beside it") {
      try await run.repository.backUp(snapshot, cadence: .hourly, encoding: run.encoding, logger: run.logger)
    }
    run.say(
      "\(manifest.id) of Redis: \(manifest.properties["keys"]?.integer ?? 0) keys, "
        + "\(Format.bytes(manifest.rawSize)) stored as \(Format.bytes(manifest.storedSize))")
  }

  /// Also waits until the log has everything: a change's time in the log is when it arrived there.
  func betweenChanges(_ body: @escaping @Sendable () async throws -> Void) async throws {
    guard let writers, let server else { return try await body() }
    let (durable, settings, logger) = (durable, server.settings, logger)
    try await writers.betweenTransactions {
      let info = RedisInfo(
        try await RedisConnection.withConnection(settings, logger: logger) {
          try await $0.command("INFO", "replication").text ?? ""
        })
      let offset = info.integer("master_repl_offset") ?? 0
      try await withTimeLimit(.seconds(60), "the change log of Redis to catch up") {
        while durable.value < offset { try await Task.sleep(for: .milliseconds(10)) }
      }
      try await body()
    }
  }

  func destroy(_ run: DrillRun) async throws {
    guard let server, let writers else { return }
    try await server.kill()
    try FileManager.default.removeItem(atPath: server.dataFolder)
    await writers.stop()
    known = writers.ledger.entries
    follower?.cancel()
    try await follower?.value
    run.say("Redis had confirmed \(known.count) transactions")
  }

  // MARK: After it

  func recover(to moment: Date, _ run: DrillRun) async throws {
    let manifest = try await run.measure(self, "find the backup", counts: true) {
      try await run.repository.catalog(of: component).backup(of: component, for: moment)
    }
    let restored = try await restore(manifest, to: .time(moment), counts: true, run)
    let contents = try await run.measure(self, "first right answer", counts: true) {
      try await RedisLedger.read(restored.settings, connections: run.command.connections, logger: run.logger)
    }
    run.answered(self)
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
      "streams, hashes, strings and times to live agree for \(contents.sessions) of \(run.command.connections) writers")
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
      restored.settings, connections: run.command.connections, logger: run.logger)
    run.check(
      self, "it survives kill -9 after the restore", Set(again.entries) == Set(contents.entries),
      "\(again.entries.count) transactions of \(contents.entries.count)")
    try await removeRestored()
  }

  func recoverLatest(_ run: DrillRun) async throws {
    let manifest = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let restored = try await restore(manifest, to: .latest, counts: false, run)
    let contents = try await RedisLedger.read(
      restored.settings, connections: run.command.connections, logger: run.logger)
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

  private func restore(
    _ manifest: BackupManifest, to target: RecoveryTarget, counts: Bool, _ run: DrillRun
  ) async throws -> RedisSandbox {
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

  private func removeRestored() async throws {
    try await restored?.remove()
    restored = nil
  }

  /// A verifier that was never seen to fail proves nothing: it must notice a copy with one flipped bit.
  func refuseDamage(_ run: DrillRun) async throws {
    let catalog = try await run.repository.catalog(of: component)
    let manifest = try catalog.backup(of: component, for: .latest)
    let sound = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: run.repository, decoding: run.decoding), logger: run.logger)
    run.check(
      self, "the backup's bytes", sound.verdict == .passed,
      sound.obstacle ?? "\(sound.findings.filter { $0.severity == .passed }.count) findings passed")
    run.check(
      self, "the change log",
      try await RedisLogCheck(archive: archive(run), backups: catalog.backups).verify(logger: run.logger))
    let damaged = run.damaged(try manifest.artifact("dump.rdb"))
    let verdict = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: damaged, decoding: run.decoding), logger: run.logger)
    let finding = verdict.findings.first { $0.severity == .failure }
    run.check(
      self, "the verifier notices a flipped bit", verdict.verdict == .failed, finding?.evidence ?? "it noticed nothing")
    let target = try await RedisSandbox.create(RedisDrill.options, logger: run.logger)
    restored = target
    do {
      _ = try await RedisOnlineRestorer(server: target.settings).restore(
        from: damaged.reader(for: manifest, decoding: run.decoding), to: .immediate, logger: run.logger)
      run.check(self, "the restore refuses it", false, "it restored a damaged backup")
    } catch let error as DRError {
      let keys = try await target.command("DBSIZE").integer
      run.check(self, "the restore refuses it", keys == 0 && error.code == .corruptData, error.message)
    }
    try await removeRestored()
  }

  func openingCommands(_ run: DrillRun) async throws -> [String] {
    let manifest = try await run.repository.catalog(of: component).backup(of: component, for: .latest)
    let dump = try manifest.artifact("dump.rdb")
    let open = run.isEncrypted ? "age -d -i \(run.folder.identity)" : "cat"
    let file = "\(run.folder.repository)/\(dump.key)"
    return [
      "\(open) \(file) | zstd -d > dump.rdb && redis-check-rdb dump.rdb",
      "for f in $(find \(run.folder.repository)/redis/aof -name '*.zst*' | sort); do \(open) $f | zstd -d; done | grep -a ^#DR",
    ]
  }

  func close() async {
    follower?.cancel()
    await writers?.stop()
    for sandbox in [server, restored].compactMap({ $0 }) { try? await sandbox.remove() }
  }
}
