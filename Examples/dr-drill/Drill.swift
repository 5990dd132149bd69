import DRCore
import DRPostgres
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// The drill, phase by phase.
struct Drill: Sendable {
  private let command: DrillCommand
  private let folder: DrillFolder
  private let repository: Repository
  private let settings: RepositoryConfiguration
  private let encoding: Encoding
  private let decoding: Decoding
  private let logger: Logger

  /// The commits' own times are the drill's proof, before and after.
  private static let server = PostgresSandbox.Options(
    settings: ["track_commit_timestamp": "on", "max_wal_size": "2GB"])

  init(_ command: DrillCommand, logger: Logger) async throws {
    self.command = command
    self.logger = logger
    folder = try DrillFolder()
    var settings = RepositoryConfiguration(
      repository: folder.repository, component: try Component(.postgres, "drill"))
    if command.encrypt {
      let identity = AgeIdentity.generate()
      try folder.write((identity.secretText() ?? "") + "\n", to: folder.identity)
      settings.recipients = identity.recipient.map { ["\($0)"] }
      settings.identityFile = folder.identity
    }
    let json = try JSONEncoder().encode(settings)
    try folder.write(String(decoding: json, as: UTF8.self), to: folder.configuration)
    self.settings = settings
    repository = Repository(tier: try await settings.tier(creating: true))
    encoding = try settings.encoding()
    decoding = try settings.decoding()
  }

  func run() async throws -> DrillReport {
    do {
      let report = try await drill()
      if !command.keep { folder.remove() }
      return report
    } catch {
      if !command.keep { folder.remove() }
      throw error
    }
  }

  private func drill() async throws -> DrillReport {
    var report = DrillReport()
    let disaster = try await live(&report)
    try await recoverToTarget(disaster, &report)
    try await recoverToLatest(disaster, &report)
    try await damagedCopy(disaster, &report)
    if command.keep { folder.keep() }
    if command.keep { report.notes = KeptRepository.lines(folder, settings, try await repository.catalog()) }
    return report
  }

  // MARK: Before the disaster

  /// What is left after the disaster: the repository, and the clients' own memory.
  private struct Disaster: Sendable {
    var killed: ContinuousClock.Instant
    var known: [LedgerEntry]
    /// Microseconds since 1970, between two commits.
    var target: Int64
    /// Of the tables that the ledger's writers do not touch.
    var rowCounts: PostgresRowCounts
    var targetDate: Date { Date(timeIntervalSince1970: Double(target) / 1_000_000) }
  }

  private func live(_ report: inout DrillReport) async throws -> Disaster {
    say("starting a PostgreSQL server of the drill's own")
    let sandbox = try await measure("start a server", &report) {
      try await PostgresSandbox.create(Drill.server, logger: logger)
    }
    return try await PostgresSandbox.with(sandbox) { server in
      say("filling it with \(Format.bytes(command.size.bytes))")
      try await measure("fill it", &report) {
        try await SampleData.fill(server.settings, bytes: command.size.bytes, seed: command.seed, logger: logger)
      }
      var rowCounts = try await PostgresRowCounts.count(server.settings, logger: logger)
      rowCounts.databases["postgres"]?["public.ledger"] = nil
      let archive = try await WALArchive.of(
        server.settings, tier: repository.tier, component: settings.component, encoding: encoding, decoding: decoding,
        logger: logger)
      var receiving = WALReceiver.Options(slot: "dr_drill")
      receiving.partialInterval = .seconds(command.partialInterval)
      let receiver = try WALReceiver(
        archive: archive, server: server.settings, options: receiving, logger: logger)
      try await receiver.prepare(logger: logger)
      let follow = Task { try await receiver.follow(logger: logger) { _ in } }
      let writers = LedgerWriters(server.settings, connections: command.connections, logger: logger)
      do {
        let disaster = try await load(server, archive, writers, rowCounts, &report)
        follow.cancel()
        try await follow.value
        return disaster
      } catch {
        follow.cancel()
        await writers.stop()
        throw error
      }
    }
  }

  private func load(
    _ server: PostgresSandbox, _ archive: WALArchive, _ writers: LedgerWriters, _ rowCounts: PostgresRowCounts,
    _ report: inout DrillReport
  ) async throws -> Disaster {
    say("writing a ledger from \(command.connections) connections, and taking a base backup meanwhile")
    try await Task.sleep(for: .seconds(command.seconds))
    var source = PostgresBaseBackup(
      component: settings.component, server: server.settings, requiredWAL: .archived(archive))
    source.progress = ProgressBar("backup").handler
    let backup = source
    let manifest = try await measure("base backup, WAL streaming beside it", &report) {
      try await repository.backUp(backup, cadence: .daily, encoding: encoding, logger: logger)
    }
    say(
      "\(manifest.id): \(Format.bytes(manifest.rawSize)) stored as \(Format.bytes(manifest.storedSize)), "
        + "\(manifest.properties["pagesChecked"]?.integer ?? 0) pages checked")
    try await Task.sleep(for: .seconds(command.seconds))

    let target = try await writers.betweenCommits {
      // A commit's time is taken before its record is written: between two commits, time and WAL agree on the order.
      try await Task.sleep(for: .milliseconds(2))
      let now = try await PostgresConnection.withConnection(server.settings, logger: logger) {
        try await $0.query("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").single
      }
      try await Task.sleep(for: .milliseconds(2))
      guard let target = now.flatMap({ Int64($0) }) else {
        throw DRError(.sourceFailed, "the server does not tell the time")
      }
      return target
    }
    say("the target is \(Timestamp.format(Date(timeIntervalSince1970: Double(target) / 1_000_000)))")
    try await Task.sleep(for: .seconds(command.seconds))

    say("disaster: kill -9 of the server, and its data folder is removed")
    let killed = ContinuousClock.now
    try await server.kill()
    try FileManager.default.removeItem(atPath: server.dataFolder)
    await writers.stop()
    let known = writers.ledger.entries
    say("\(known.count) commits were confirmed before it")
    return Disaster(killed: killed, known: known, target: target, rowCounts: rowCounts)
  }

  // MARK: After it

  private func recoverToTarget(_ disaster: Disaster, _ report: inout DrillReport) async throws {
    say("restoring to the target")
    let place = folder.path + "/restored-to-target"
    let found = try await measure("find the backup", counts: true, &report) {
      try await settings.backup(in: repository, for: .time(disaster.targetDate))
    }
    try await restore(found, to: .time(disaster.targetDate), place, counts: true, &report)
    let sandbox = try await measure("start, replay WAL, promote", counts: true, &report) {
      try await PostgresSandbox.start(
        dataFolder: place, Drill.server, until: .promoted, limit: .seconds(3600), logger: logger)
    }
    try await PostgresSandbox.with(sandbox) { restored in
      let rows = try await measure("first right answer", counts: true, &report) {
        try await LedgerWriters.read(restored.settings, logger: logger)
      }
      let rto = disaster.killed.duration(to: .now)
      let comparison = LedgerComparison(known: disaster.known, found: rows, target: disaster.target)
      report.check(
        "every commit up to the target is there", comparison.missing.isEmpty && comparison.matching > 0,
        "\(comparison.matching) there, \(comparison.missing.count) missing")
      let after = disaster.known.filter { $0.committed > disaster.target }.count
      report.check(
        "no commit after the target is there", comparison.unexpected.isEmpty && after > 0,
        "\(comparison.unexpected.count) there of the \(after) that were made")
      report.check(
        "recovery time", rto <= .seconds(command.rtoTarget),
        "\(Format.duration(rto)) from the kill to the first right answer, \(Format.duration(.seconds(command.rtoTarget))) allowed"
      )
      try await probe(restored, disaster, &report)
    }
    try? FileManager.default.removeItem(atPath: place)
  }

  private func recoverToLatest(_ disaster: Disaster, _ report: inout DrillReport) async throws {
    say("restoring once more, to the latest")
    let place = folder.path + "/restored-to-latest"
    let found = try await settings.backup(in: repository, for: .latest)
    try await restore(found, to: .latest, place, counts: false, &report)
    let sandbox = try await measure("start, replay all WAL, promote", &report) {
      try await PostgresSandbox.start(
        dataFolder: place, Drill.server, until: .promoted, limit: .seconds(3600), logger: logger)
    }
    try await PostgresSandbox.with(sandbox) { restored in
      let rows = try await LedgerWriters.read(restored.settings, logger: logger)
      let comparison = LedgerComparison(known: disaster.known, found: rows, target: nil)
      let newest = disaster.known.map(\.committed).max() ?? 0
      let recovered = rows.map(\.committed).max() ?? 0
      let lost = Duration.microseconds(max(0, newest - recovered))
      report.check(
        "data loss", lost <= .seconds(command.rpoTarget) && comparison.matching > 0,
        "\(Format.duration(lost)) and \(comparison.missing.count) of \(disaster.known.count) commits lost, "
          + "\(Format.duration(.seconds(command.rpoTarget))) allowed")
      // Whatever was lost must be the end of it: a hole before what came back would be worse than a loss.
      let holes = comparison.missing.filter { $0.committed < recovered - 1_000_000 }.count
      report.check("nothing is missing before what came back", holes == 0, "\(holes) holes")
    }
    try? FileManager.default.removeItem(atPath: place)
  }

  private func restore(
    _ manifest: BackupManifest, to target: RecoveryTarget, _ place: String, counts: Bool, _ report: inout DrillReport
  ) async throws {
    let fetch = "\(folder.program) fetch --config \(folder.configuration) %f %p"
    let restorer = PostgresRestorer(
      dataFolder: place, recovery: RecoverySettings(restoreCommand: fetch), owner: folder.user?.name,
      progress: ProgressBar("restore").handler)
    let reader = repository.reader(for: manifest, decoding: decoding)
    _ = try await measure("read, decrypt, check, write", counts: counts, &report) {
      try await restorer.restore(from: reader, to: target, logger: logger)
    }
  }

  private func probe(
    _ restored: PostgresSandbox, _ disaster: Disaster, _ report: inout DrillReport
  ) async throws {
    let harmless = try await restored.harmlessness(logger: logger)
    report.add("the restored server is harmless", harmless)
    let probes = PostgresProbes.all(restored.settings, rowCounts: disaster.rowCounts)
    let seen = try await measure("probes: rows, keys, constraints, amcheck, a full dump", &report) {
      try await probes.verify(logger: logger)
    }
    report.add("probes of the restored server", seen)
  }

  /// A verifier that was never seen to fail proves nothing: it must notice a copy with one flipped bit.
  private func damagedCopy(_ disaster: Disaster, _ report: inout DrillReport) async throws {
    say("verifying the backup, and a copy that is damaged on purpose")
    let manifest = try await settings.backup(in: repository, for: .latest)
    let sound = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: repository, decoding: decoding), logger: logger)
    report.check(
      "the backup's bytes", sound.verdict == .passed,
      sound.obstacle ?? "\(sound.findings.filter { $0.severity == .passed }.count) findings passed")
    let archive = try WALArchive(
      tier: repository.tier, component: settings.component, systemIdentifier: manifest.systemIdentifier ?? "",
      decoding: decoding)
    let wal = try await WALCheck(archive: archive, backups: [manifest]).report(logger: logger)
    report.add("the WAL archive", wal.findings)
    let artifact = try manifest.artifact("base.tar")
    let offset = Int64(command.seed &* 0x9E37_79B9_7F4A_7C15 % UInt64(max(1, artifact.storedSize)))
    let damaged = Repository(tier: DamagedTier(repository.tier, damaging: artifact.key, at: offset))
    let verdict = await VerificationReport.run(
      manifest.id, BackupVerifier(manifest, in: damaged, decoding: decoding), logger: logger)
    let finding = verdict.findings.first { $0.severity == .failure }
    report.check(
      "the verifier notices a flipped bit", verdict.verdict == .failed, finding?.evidence ?? "it noticed nothing")
    let place = folder.path + "/restored-damaged"
    do {
      _ = try await PostgresRestorer(
        dataFolder: place, recovery: RecoverySettings(restoreCommand: "false"), owner: folder.user?.name
      ).restore(from: damaged.reader(for: manifest, decoding: decoding), to: .latest, logger: logger)
      report.check("the restore refuses it", false, "it restored a damaged backup")
    } catch let error as DRError {
      let left = FileManager.default.fileExists(atPath: place)
      report.check("the restore refuses it", !left && error.code == .corruptData, error.message)
    }
  }

  // MARK: Saying and measuring

  private func say(_ text: String) { print("dr-drill: \(text)") }

  private func measure<Result>(
    _ name: String, counts: Bool = false, _ report: inout DrillReport, _ body: () async throws -> Result
  ) async throws -> Result {
    let start = ContinuousClock.now
    let result = try await body()
    report.phases.append(.init(name: name, duration: start.duration(to: .now), counts: counts))
    return result
  }
}

extension DrillReport {
  /// One check of several findings: passed if none is a failure and at least one passed.
  mutating func add(_ name: String, _ findings: [Finding]) {
    let failures = findings.filter { $0.severity == .failure }
    let passed = findings.filter { $0.severity == .passed }.count
    check(
      name, failures.isEmpty && passed > 0,
      failures.first.map { "\($0)" }
        ?? (findings.count == 1 ? findings[0].evidence : "\(passed) passed, \(findings.count - passed) notices"))
  }
}
