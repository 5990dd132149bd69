import DRCore
import DRRedis
import DRStorage
import Foundation
import NIOCore
import Testing

/// A change log that runs beside a test.
final class RunningLog: Sendable {
  private let points = MutableBox<[RecoveryPoint]>([])
  private let seen = MutableBox<[RedisChangeLog.Event]>([])
  private let task: Task<Void, any Error>
  let archive: RedisLogArchive

  static func options(_ change: (inout RedisChangeLog.Options) -> Void = { _ in }) -> RedisChangeLog.Options {
    var options = RedisChangeLog.Options()
    options.partialInterval = .milliseconds(30)
    options.longestPause = .milliseconds(300)
    options.segmentSize = 64 << 10
    options.leaseLife = .seconds(1)
    change(&options)
    return options
  }

  init(
    _ archive: RedisLogArchive, _ server: RedisSandbox, _ options: RedisChangeLog.Options = options(),
    settings: RedisConnectionSettings? = nil
  ) throws {
    self.archive = archive
    let (points, seen) = (points, seen)
    let log = try RedisChangeLog(
      archive: archive, server: settings ?? server.settings, options: options, logger: RedisFixture.logger,
      onEvent: { event in seen.withLock { $0.append(event) } })
    task = Task {
      try await log.follow(logger: RedisFixture.logger) { point in points.withLock { $0.append(point) } }
    }
  }

  var all: [RecoveryPoint] { points.value }
  var last: RecoveryPoint? { points.value.last }
  var events: [RedisChangeLog.Event] { seen.value }
  var snapshots: [BackupManifest] {
    events.compactMap { if case .snapshot(let manifest) = $0 { manifest } else { nil } }
  }
  var gaps: Int { events.count { if case .gap = $0 { true } else { false } } }
  var resumptions: Int { events.count { if case .resumed = $0 { true } else { false } } }

  /// Waits until everything that a server has done by now is durable.
  func waitUntilDurable(_ server: RedisSandbox) async throws {
    // A write, for a heartbeat alone may be long in coming.
    try await server.command("SET", "wait until durable", "\(Int.random(in: 0 ... .max))")
    let offset = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
    try await RedisFixture.eventually("offset \(offset) to be durable, not \(last?.position ?? "none")") { [self] in
      if ended.value { try await task.value }
      return last.flatMap { Int64($0.position) } ?? -1 >= offset
    }
  }

  private let ended = MutableBox(false)

  /// How it ends by itself.
  func result() async -> Result<Void, any Error> { await task.result }

  func stop() async -> Result<Void, any Error> {
    task.cancel()
    return await task.result
  }
}

extension RedisFixture {
  static func archive(_ repository: Repository) throws -> RedisLogArchive {
    RedisLogArchive(tier: repository.tier, component: try component())
  }

  /// Restores online into a new server, and gives its digest.
  static func restoredDigest(
    _ manifest: BackupManifest, _ repository: Repository, to target: RecoveryTarget, appendOnly: Bool = false,
    _ look: (RedisSandbox) async throws -> Void = { _ in }
  ) async throws -> String {
    try await withServer(options(appendOnly: appendOnly)) { server in
      let restorer = RedisOnlineRestorer(server: server.settings, archive: try archive(repository))
      _ = try await restorer.restore(from: repository.reader(for: manifest), to: target, logger: logger)
      try await look(server)
      return try await digest(server)
    }
  }
}
