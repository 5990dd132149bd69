import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

@Suite(.serialized) struct RedisOnlineRestoreTests {
  /// A filled server, backed up, and gone.
  private static func withBackup(
    _ settings: [String: String] = [:], _ body: (Repository, BackupManifest, String) async throws -> Void
  ) async throws {
    try await RedisFixture.withRepository { repository, _ in
      let (manifest, digest) = try await RedisFixture.withServer(RedisFixture.options(settings)) { server in
        try await RedisFixture.fill(server)
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        return (manifest, try await RedisFixture.digest(server))
      }
      try await body(repository, manifest, digest)
    }
  }

  private static func restore(
    _ manifest: BackupManifest, _ repository: Repository, into server: RedisSandbox,
    _ change: (inout RedisOnlineRestorer) -> Void = { _ in }
  ) async throws -> RestoreOutcome {
    var restorer = RedisOnlineRestorer(server: server.settings)
    change(&restorer)
    return try await restorer.restore(
      from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
  }

  private static func refusal(
    _ manifest: BackupManifest, _ repository: Repository, into server: RedisSandbox,
    _ change: (inout RedisOnlineRestorer) -> Void = { _ in }
  ) async throws -> DRError {
    let error = await #expect(throws: DRError.self) {
      _ = try await restore(manifest, repository, into: server, change)
    }
    return try #require(error)
  }

  /// With an append-only file and without; and what was restored survives `kill -9` right after.
  @Test(arguments: [true, false], ["disabled", "on-empty-db", "swapdb"])
  func whatIsRestoredSurvivesAKill(appendOnly: Bool, diskless: String) async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer(
        RedisFixture.options(appendOnly: appendOnly, ["repl-diskless-load": diskless])
      ) { server in
        let outcome = try await Self.restore(manifest, repository, into: server)
        #expect(outcome.items == manifest.properties["keys"]?.integer.map { Int($0) })
        #expect(try await RedisFixture.digest(server) == digest)
        #expect(try await RedisFixture.info(server)["role"] == "master")
        #expect(try await server.command("FCALL", "answer", "0").integer == 42)
        // What was set for the load is set back.
        let setting = try await server.command("CONFIG", "GET", "repl-diskless-load").textPairs
        #expect(setting == ["repl-diskless-load": diskless])
        try await server.kill()
        try await server.start()
        #expect(try await RedisFixture.digest(server) == digest)
      }
    }
  }

  /// Refused, unless told; and then what was there is in the repository first.
  @Test func aTargetThatHoldsDataIsRefused() async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer(RedisFixture.options(appendOnly: true)) { server in
        try await server.command("SET", "precious", "data")
        let before = try await RedisFixture.digest(server)
        let error = try await Self.refusal(manifest, repository, into: server)
        #expect(error.code == .destinationInUse)
        #expect(try await RedisFixture.digest(server) == before)
        _ = try await Self.restore(manifest, repository, into: server) {
          $0.existingData = .replace(backUpInto: repository)
        }
        #expect(try await RedisFixture.digest(server) == digest)
        let catalog = try await repository.catalog(of: manifest.component)
        let former = try #require(catalog.latest(for: manifest.component))
        #expect(former.id != manifest.id && former.properties["keys"]?.integer == 1)
        _ = try await Self.restore(former, repository, into: server) { $0.existingData = .discard }
        #expect(try await RedisFixture.digest(server) == before)
      }
    }
  }

  /// Each of these would cost the target its process or its data in the middle: found before.
  @Test func preflight() async throws {
    try await Self.withBackup { repository, manifest, _ in
      var listening = RedisFixture.options(["databases": "2"])
      listening.listensOnLoopback = true
      try await RedisFixture.withServer(listening) { server in
        func refused(_ what: String, _ change: (inout RedisOnlineRestorer) -> Void = { _ in }) async throws {
          let error = try await Self.refusal(manifest, repository, into: server, change)
          #expect(error.code == .invalidConfiguration && error.message.contains(what), "\(error)")
          #expect(error.message.contains("nothing was touched"))
          #expect(await server.processID != nil)
        }
        try await refused("database 3 is needed, and there are 2")
        try await server.command("CONFIG", "SET", "maxmemory", "1000000")
        try await refused("maxmemory is 1000000")
        try await server.command("CONFIG", "SET", "maxmemory", "0")
        let follower = try await RedisSandbox.create(RedisFixture.options(), logger: RedisFixture.logger)
        try await RedisSandbox.with(follower) { follower in
          try await follower.command("REPLICAOF", "127.0.0.1", "\(try #require(server.nodes[0].port))")
          try await RedisFixture.eventually("the replica") {
            try await RedisFixture.info(server, "replication")["connected_slaves"] == "1"
          }
          try await refused("1 replica follows it")
          let error = try await Self.refusal(manifest, repository, into: follower)
          #expect(error.message.contains("its role is slave"))
        }
        try await server.command("ACL", "SETUSER", "weak", "on", ">x", "+@all", "-replicaof", "~*", "&*")
        try await refused("may not REPLICAOF") {
          $0.server.user = "weak"
          $0.server.password = .value("x")
        }
        let subscriber = try await RedisConnection.connect(server.settings, logger: RedisFixture.logger)
        try await subscriber.command("SUBSCRIBE", "__sentinel__:hello")
        try await refused("1 Sentinels watch it")
        await subscriber.close()
      }
      var cluster = RedisFixture.options()
      cluster.clusterNodes = 1
      try await RedisFixture.withServer(cluster) { server in
        let error = try await Self.refusal(manifest, repository, into: server)
        #expect(error.message.contains("cluster"))
      }
    }
  }

  /// What a later Redis wrote, and values of modules: a target that met them would be left empty, or end.
  @Test func aBackupThatTheTargetCannotRead() async throws {
    try await RedisFixture.withRepository { repository, folder in
      let file = folder + "/later.rdb"
      try Data(RecordedFiles.version12).write(to: URL(filePath: file))
      let manifest = try await repository.backUp(
        RedisSnapshot(component: try RedisFixture.component(), file: file), cadence: .hourly,
        logger: RedisFixture.logger)
      try await RedisFixture.withServer { server in
        try await server.command("SET", "precious", "data")
        let before = try await RedisFixture.digest(server)
        let error = try await Self.refusal(manifest, repository, into: server) { $0.existingData = .discard }
        #expect(error.code == .invalidConfiguration && error.message.contains("nothing was touched"))
        #expect(error.message.contains("values of graph") && error.message.contains("0 modules are loaded"))
        let newest = RedisVersions.newestRDB(of: try await RedisFixture.info(server))
        #expect(error.message.contains("has RDB version 12") == (newest < 12), "\(error)")
        #expect(try await RedisFixture.digest(server) == before)
      }
    }
  }

  /// The change log comes slower than the target's `repl-timeout`: it hears a heartbeat, and does not take us for dead.
  @Test func aSlowChangeLogIsBorne() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await RedisFixture.fill(server, keys: 50)
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        try await RedisFixture.withServer(RedisFixture.options(["repl-timeout": "3"])) { target in
          let tier = DyingTier(repository.tier)
          var restorer = RedisOnlineRestorer(
            server: target.settings,
            archive: RedisLogArchive(tier: tier, component: try RedisFixture.component()))
          restorer.onStep = { if $0 == .checked { tier.dawdle(.seconds(8)) } }
          let outcome = try await restorer.restore(
            from: repository.reader(for: log.snapshots[0]), to: .latest, logger: RedisFixture.logger)
          #expect(outcome.duration > .seconds(8))
          #expect(try await RedisFixture.digest(target) == digest)
        }
      }
    }
  }

  @Test func laterVersionsAreKnown() {
    for (text, newest) in [
      ("redis_version:4.0.9", 8), ("redis_version:6.2.1", 9), ("redis_version:7.0.15", 10), ("redis_version:7.2.4", 11),
      ("redis_version:7.4.0", 12), ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1", 11),
    ] { #expect(RedisVersions.newestRDB(of: RedisInfo(text)) == newest) }
  }

  /// A damaged backup, or one without a checksum, never reaches the target: it would end its process.
  @Test func aDamagedBackupNeverReachesTheTarget() async throws {
    try await Self.withBackup { repository, manifest, _ in
      try await RedisFixture.withServer(RedisFixture.options(appendOnly: true)) { server in
        let artifact = try manifest.artifact("dump.rdb")
        let root = try #require(repository.tier as? LocalTier).name.replacing("local:", with: "")
        let path = "\(root)/\(artifact.key)"
        let whole = try Data(contentsOf: URL(filePath: path))
        for offset in stride(from: 20, to: whole.count, by: max(1, whole.count / 12)) {
          var damaged = whole
          damaged[offset] ^= 0x10
          chmod(path, 0o600)
          try damaged.write(to: URL(filePath: path))
          let error = try await Self.refusal(manifest, repository, into: server)
          #expect(error.code == .corruptData || error.code == .malformedData, "\(error)")
          #expect(try await RedisFixture.info(server)["role"] == "master")
        }
      }
    }
    try await RedisFixture.withRepository { repository, _ in
      try await RedisFixture.withServer(RedisFixture.options(["rdbchecksum": "no"])) { server in
        try await RedisFixture.fill(server)
        var source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        source.acceptsMissingChecksum = true
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        try await RedisFixture.withServer { target in
          let error = try await Self.refusal(manifest, repository, into: target)
          #expect(error.code == .corruptData && error.message.contains("no checksum"))
        }
      }
    }
  }

  /// The connection breaks in the middle, or what was sent turns out at its end to be another data set than was checked: the
  /// target keeps what it had, loads nothing and follows nobody.
  @Test(arguments: [BreakingReader.Place.middle, .end], [true, false])
  fileprivate func aBrokenConnectionKeepsTheOldData(_ place: BreakingReader.Place, isEmpty: Bool) async throws {
    try await Self.withBackup { repository, manifest, _ in
      try await RedisFixture.withServer { server in
        if !isEmpty { try await server.command("SET", "precious", "data") }
        let before = try await RedisFixture.digest(server)
        var restorer = RedisOnlineRestorer(server: server.settings)
        restorer.existingData = .discard
        let reader = BreakingReader(repository.reader(for: manifest), at: place)
        let online = restorer
        let error = await #expect(throws: DRError.self) {
          _ = try await online.restore(from: reader, to: .latest, logger: RedisFixture.logger)
        }
        #expect(error?.code == .tierUnavailable)
        try await RedisFixture.eventually("it to be a master again") {
          try await RedisFixture.info(server)["role"] == "master"
        }
        #expect(try await RedisFixture.digest(server) == before)
      }
    }
  }

  /// Somebody else comes to the port first: he is given nothing.
  @Test func aStrangerIsGivenNothing() async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer { server in
        let listener = try await RedisListener.listen(host: "127.0.0.1")
        let stranger = RedisConnectionSettings(host: "127.0.0.1", port: listener.port)
        let asking = Task {
          try await RedisConnection.withConnection(stranger, logger: RedisFixture.logger) { connection in
            _ = try await connection.send(["PING"])
            return try await connection.send(["PSYNC", String(repeating: "0", count: 40), "1"])
          }
        }
        let link = try await listener.accept(limit: .seconds(10))
        let info = try await RedisFixture.info(server)
        let error = await #expect(throws: DRError.self) {
          try await ServedReplica(link, limit: .seconds(10)).run { try await $0.handshake(expecting: info) }
        }
        #expect(error?.message.contains("something else") == true)
        await link.close()
        await #expect(throws: DRError.self) { _ = try await asking.value }
        // One peer, once.
        await #expect(throws: (any Error).self) {
          try await RedisConnection.withConnection(stranger, logger: RedisFixture.logger) {
            try await $0.command("PING")
          }
        }
        await listener.close()
      }
      _ = digest
    }
  }

  /// Commands of the log that fail in the target only raise a counter: it is looked at.
  @Test func commandsThatFailAreNoticed() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await server.command("SET", "a", "1")
        try await log.waitUntilDurable(server)
        try await log.stop().get()
        // A segment that goes on with what cannot be done.
        let end = try #require(log.last.flatMap { Int64($0.position) })
        let id = try #require(log.last?.history)
        var assembler = ChangeAssembler(at: ReplicationPosition(history: id, offset: end), size: 1 << 20)
        var bytes = ByteBuffer()
        bytes.writeRESPCommand(["LPUSH", "a", "not a list"])
        _ = try assembler.append(bytes, at: 1)
        let sealed = assembler.seal()
        let piece = try #require(sealed)
        let store = try ChangeLogStore(
          tier: repository.tier, component: try RedisFixture.component(), log: "aof",
          systemIdentifier: try #require(log.snapshots[0].recoveryPoint.history))
        _ = try await store.put(piece.segment.name, piece.bytes)
        let error = await #expect(throws: DRError.self) {
          _ = try await RedisFixture.restoredDigest(log.snapshots[0], repository, to: .latest)
        }
        #expect(error?.message.contains("commands of the change log failed") == true, "\(String(describing: error))")
      }
    }
  }

  @Test func probesOfARestoredServer() async throws {
    try await RedisFixture.withServer(RedisFixture.options(appendOnly: true)) { server in
      try await RedisFixture.fill(server)
      let samples = try await RedisSamples.take(server.settings, count: 40, logger: RedisFixture.logger)
      #expect(samples.keys.count > 10)
      try await RedisFixture.withRepository { repository, _ in
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        try await RedisFixture.withServer(RedisFixture.options(appendOnly: true)) { restored in
          _ = try await Self.restore(manifest, repository, into: restored)
          let probes = RedisProbes(restored.settings, manifest: manifest, samples: samples)
          let sound = try await probes.verify(logger: RedisFixture.logger)
          // No closure inside of #expect: the compiler (6.3.1) gives it the name of the next one of its type in this function,
          // and one of the two bodies for both.
          let unsound = sound.filter { $0.severity != .passed }
          #expect(unsound.isEmpty, "\(unsound)")
          #expect(
            Set(sound.map(\.check)) == [
              "connectivity", "key-counts", "key-types", "samples", "hits", "memory", "persistence",
            ])
          // A verifier that was never seen to fail proves nothing. One key less is within what may have expired, for the
          // counts: the samples notice it.
          let sample = samples.keys[0]
          try await restored.command("DEL", sample.name, database: sample.database)
          try await restored.command("DEL", "numbers")
          let damaged = try await probes.verify(logger: RedisFixture.logger)
          let failed = Set(damaged.filter { $0.severity == .failure }.map(\.check))
          #expect(failed.isSuperset(of: ["samples", "hits"]), "\(sample.name): \(damaged)")
          let without = try await RedisProbes(restored.settings).verify(logger: RedisFixture.logger)
          #expect(Set(without.map(\.severity)).contains(.notChecked))
        }
      }
    }
  }

  @Test func persistenceAgainstThePlan() async throws {
    try await RedisFixture.withServer(
      RedisFixture.options(appendOnly: true, ["maxmemory": "512mb", "maxmemory-policy": "allkeys-lru"])
    ) { server in
      var expectation = RedisPersistenceCheck.Expectation()
      expectation.maximumMemory = 512 << 20
      expectation.evictionPolicy = "allkeys-lru"
      expectation.saveAge = .seconds(3600)
      let good = try await RedisPersistenceCheck(server.settings, expectation: expectation)
        .verify(logger: RedisFixture.logger)
      #expect(!good.contains { $0.severity == .failure } && good.count >= 8, "\(good)")
      try await RedisMaintenance.rewriteAppendOnlyFile(server.settings, logger: RedisFixture.logger)
      #expect(try await RedisFixture.info(server)["aof_rewrites"] == "1")
      try await server.command("CONFIG", "SET", "appendfsync", "no")
      try await server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
      expectation.replicas = 2
      let bad = try await RedisPersistenceCheck(server.settings, expectation: expectation)
        .verify(logger: RedisFixture.logger)
      #expect(
        Set(bad.filter { $0.severity == .failure }.map(\.check))
          == ["config-appendfsync", "config-maxmemory-policy", "replicas"])
      try await server.command("CONFIG", "SET", "appendonly", "no")
      let error = await #expect(throws: DRError.self) {
        try await RedisMaintenance.rewriteAppendOnlyFile(server.settings, logger: RedisFixture.logger)
      }
      #expect(error?.code == .sourceFailed)
    }
  }
}

/// Fails in the second read of the data set: the first is the check.
private struct BreakingReader: BackupReader {
  enum Place: Sendable { case middle, end }

  let inner: any BackupReader
  let place: Place
  let reads = MutableBox(0)

  init(_ inner: any BackupReader, at place: Place) { (self.inner, self.place) = (inner, place) }

  var manifest: BackupManifest { inner.manifest }

  func read(_ artifact: BackupManifest.Artifact) async throws -> ByteStream {
    let number = reads.withLock { reads in
      reads += 1
      return reads
    }
    guard number == 2 else { return try await inner.read(artifact) }
    // At the end: as where a digest differs.
    let size = place == .end ? artifact.rawSize : artifact.rawSize / 2
    let part = try await inner.read(artifact, range: 0..<size)
    return ByteStream {
      var iterator = part.makeAsyncIterator()
      guard let piece = try await iterator.next() else { throw DRError(.tierUnavailable, "the tier went away") }
      return piece
    }
  }

  func read(_ artifact: BackupManifest.Artifact, range: Range<Int64>) async throws -> ByteStream {
    try await inner.read(artifact, range: range)
  }
}
