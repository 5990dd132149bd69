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
  var server: RedisSandbox?
  var restored: RedisSandbox?
  var follower: Task<Void, any Error>?
  var writers: RedisLedger?
  var samples: RedisSamples?
  var known: [LedgerEntry] = []
  /// The socket of the server that was destroyed, and what came back.
  var socket = ""
  var back: Back?
  var logger = Logger(label: "dr-drill")
  /// Through which offset everything is durable.
  let durable = MutableBox<Int64>(-1)

  /// As the plan sets Redis up.
  static let options = RedisSandbox.Options(settings: ["appendfsync": "everysec"], appendOnly: true)

  struct Back {
    var server: RedisSandbox
    var manifest: BackupManifest
    var contents: RedisLedger.Contents
  }

  struct Memory: Codable {
    var socket: String
    var known: [LedgerEntry]
    var samples: RedisSamples?
  }

  init() throws { component = try Component(.redis, "drill") }

  func archive(_ run: DrillRun) -> RedisLogArchive {
    RedisLogArchive(
      tier: run.repository.tier, component: component, encoding: run.encoding, decoding: run.decoding)
  }

  // MARK: Before the disaster

  func start(_ run: DrillRun) async throws {
    logger = run.logger
    let bytes = run.options.size / 4
    run.say("starting a Redis server of the drill's own, and filling it with \(Format.bytes(bytes))")
    let server = try await run.measure(self, "start a server") {
      try await RedisSandbox.create(RedisDrill.options, logger: run.logger)
    }
    self.server = server
    if case .unix(let path) = server.settings.address { socket = path }
    run.version(
      of: self, RedisInfo(try await server.command("INFO", "server").text ?? "")["redis_version"] ?? "unknown")
    try await run.measure(self, "fill it") { try await RedisSampleData.fill(server.settings, bytes: bytes, run.logger) }
    samples = try await RedisSamples.take(server.settings, logger: run.logger)
    var options = RedisChangeLog.Options()
    options.partialInterval = .seconds(min(0.5, run.options.partialInterval))
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
    run.say("writing a ledger into Redis from \(run.options.connections) connections")
    writers = RedisLedger(server.settings, connections: run.options.connections, logger: run.logger)
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

  func memory() throws -> Data {
    try JSONEncoder().encode(Memory(socket: socket, known: known, samples: samples))
  }

  // MARK: At the end

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

  func endAbandoned(_ logger: Logger) async throws { try await RedisSandbox.removeAbandoned(logger: logger) }

  func close() async throws {
    follower?.cancel()
    await writers?.stop()
    for sandbox in [server, restored].compactMap({ $0 }) { try await sandbox.remove() }
  }
}
