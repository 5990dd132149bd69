import DRCore
import DRPostgres
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// PostgreSQL in the drill: a base backup with WAL streaming beside it, and point-in-time recovery.
actor PostgresDrill: DrillSystem {
  nonisolated let component: Component
  var server: PostgresSandbox?
  var restored: PostgresSandbox?
  var receiver: Task<Void, any Error>?
  var writers: PostgresLedger?
  var archive: WALArchive?
  /// Of the tables that the ledger's writers do not touch.
  var rowCounts: PostgresRowCounts?
  var known: [LedgerEntry] = []
  /// Where the server was that was destroyed, and what came back.
  var address = Address(host: "", port: 0)
  var back: Back?

  struct Address: Codable {
    var host: String
    var port: UInt16
  }

  struct Back {
    var server: PostgresSandbox
    var place: String
    var manifest: BackupManifest
    var rows: [LedgerEntry]
  }

  struct Memory: Codable {
    var address: Address
    var known: [LedgerEntry]
    var rowCounts: PostgresRowCounts?
  }

  /// The commits' own times are the drill's proof, before and after.
  static let options = PostgresSandbox.Options(
    settings: ["track_commit_timestamp": "on", "max_wal_size": "2GB"])

  init() throws { component = try Component(.postgres, "drill") }

  // MARK: Before the disaster

  func start(_ run: DrillRun) async throws {
    try writeConfiguration(run)
    run.say(
      "starting a PostgreSQL server of the drill's own, and filling it with \(Format.bytes(run.options.size))")
    let server = try await run.measure(self, "start a server") {
      try await PostgresSandbox.create(PostgresDrill.options, logger: run.logger)
    }
    self.server = server
    address = Address(host: server.settings.host ?? "", port: server.settings.port ?? 0)
    run.version(of: self, try await server.query("SHOW server_version").single ?? "unknown")
    try await run.measure(self, "fill it") {
      try await PostgresSampleData.fill(
        server.settings, bytes: run.options.size, seed: run.options.seed, logger: run.logger)
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
    receiving.partialInterval = .seconds(run.options.partialInterval)
    let receiver = try WALReceiver(archive: archive, server: server.settings, options: receiving, logger: run.logger)
    try await receiver.prepare(logger: run.logger)
    let logger = run.logger
    self.receiver = Task { try await receiver.follow(logger: logger) { _ in } }
    run.say("writing a ledger into PostgreSQL from \(run.options.connections) connections")
    writers = PostgresLedger(server.settings, connections: run.options.connections, logger: run.logger)
  }

  /// For `dr-wal`.
  func writeConfiguration(_ run: DrillRun) throws {
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

  func memory() throws -> Data {
    try JSONEncoder().encode(Memory(address: address, known: known, rowCounts: rowCounts))
  }

  // MARK: At the end

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

  func endAbandoned(_ logger: Logger) async throws { try await PostgresSandbox.removeAbandoned(logger: logger) }

  func close() async throws {
    receiver?.cancel()
    await writers?.stop()
    for sandbox in [server, restored].compactMap({ $0 }) { try await sandbox.remove() }
  }
}
