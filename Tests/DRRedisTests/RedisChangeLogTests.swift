import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import ServiceLifecycle
import Testing

@Suite(.serialized) struct RedisChangeLogTests {
  static func write(_ server: RedisSandbox, _ count: Int = 50) async throws {
    let script = """
      for i = 1, tonumber(ARGV[1]) do
        local n = redis.call('INCR', 'ledger:count')
        redis.call('RPUSH', 'ledger', n)
        redis.call('SET', 'session:' .. n, n, 'EX', 50000)
        redis.call('XADD', 'events', '*', 'n', n)
        redis.call('SPOP', 'set:' .. n % 10)
      end
      """
    try await server.command("EVAL", script, "0", "\(count)")
    try await server.command("HSET", "other", "field", "\(count)", database: 3)
  }

  /// The first time it takes the snapshot itself; snapshot and log together are the server.
  @Test(arguments: ["yes", "no"])
  func snapshotAndLogAreTheServer(diskless: String) async throws {
    try await RedisFixture.withServer(RedisFixture.options(["repl-diskless-sync": diskless])) { server in
      try await RedisFixture.fill(server)
      try await RedisFixture.withRepository { repository, _ in
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        for _ in 0..<20 { try await Self.write(server) }
        try await server.command(
          "FUNCTION", "LOAD", "#!lua name=later\nredis.register_function('since', function() return 43 end)")
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        #expect(log.gaps == 0)
        let manifest = try #require(log.snapshots.first)
        let restored = try await RedisFixture.restoredDigest(manifest, repository, to: .latest) { server in
          #expect(try await server.command("FCALL", "answer", "0").integer == 42)
          #expect(try await server.command("FCALL", "since", "0").integer == 43)
          let groups = try await server.command("XINFO", "GROUPS", "stream:1")
          #expect(groups.elements?.first?.textPairs["pending"] == "3")
        }
        #expect(restored == digest)
      }
    }
  }

  /// What is acknowledged is durable: never more, and soon.
  @Test func acknowledgesOnlyWhatIsDurable() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let log = try RunningLog(
          RedisFixture.archive(repository), server, RunningLog.options { $0.partialInterval = .milliseconds(200) })
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        for _ in 0..<30 {
          try await Self.write(server, 5)
          let replica = try await RedisFixture.info(server, "replication").parts("slave0")
          let acknowledged = replica["offset"].flatMap { Int64($0) } ?? 0
          let durable = log.last.flatMap { Int64($0.position) } ?? Int64(log.snapshots[0].recoveryPoint.position) ?? 0
          #expect(acknowledged <= durable)
          try await Task.sleep(for: .milliseconds(30))
        }
        try await log.waitUntilDurable(server)
        // WAIT sees it within the heartbeat.
        let connection = try await RedisConnection.connect(server.settings, logger: RedisFixture.logger)
        try await connection.command("SET", "waited", "for")
        #expect(try await connection.command("WAIT", "1", "10000").integer == 1)
        // And not only with it: what is durable is said at once.
        let begin = ContinuousClock.now
        for round in 0..<5 {
          try await connection.command("SET", "waited", "\(round)")
          let replicas = try await connection.command("WAIT", "1", "10000").integer
          #expect(replicas == 1)
        }
        #expect(begin.duration(to: .now) < .seconds(3.5))
        await connection.close()
        try await log.stop().get()
        let times = log.all.map(\.time)
        #expect(times == times.sorted())
        let offsets = log.all.compactMap { Int64($0.position) }
        #expect(offsets == offsets.sorted() && offsets.count > 5)
      }
    }
  }

  /// Cut off by the server, stopped, killed in the middle of storing, and the server restarted: it goes on where it was,
  /// and the log is whole.
  @Test func survivesBeingCutOffAnywhere() async throws {
    try await RedisFixture.withServer(RedisFixture.options(["repl-backlog-size": "64mb"])) { server in
      try await RedisFixture.fill(server)
      try await RedisFixture.withRepository { repository, _ in
        var manifest: BackupManifest?
        var random = TestData.Random(seed: 11)
        let load = Task {
          while !Task.isCancelled {
            try? await Self.write(server, 20)
            try await Task.sleep(for: .milliseconds(2))
          }
        }
        for round in 0..<9 {
          let tier = DyingTier(repository.tier)
          let archive = RedisLogArchive(tier: tier, component: try RedisFixture.component())
          let log = try RunningLog(
            archive, server, RunningLog.options { if round % 3 == 0 { $0.shutdownLimit = .milliseconds(1) } })
          try await RedisFixture.eventually("something durable") { log.all.count > 3 }
          if manifest == nil { manifest = log.snapshots.first }
          switch round % 3 {
          case 0:
            // As if killed: from some change on, none is made any more.
            tier.die(after: Int.random(in: 0...6, using: &random))
            try await Task.sleep(for: .milliseconds(200))
          case 1:
            for _ in 0..<3 {
              try await server.command("CLIENT", "KILL", "TYPE", "replica")
              try await Task.sleep(for: .milliseconds(Int.random(in: 0...200, using: &random)))
            }
          default:
            tier.fail(true)
            try await Task.sleep(for: .milliseconds(Int.random(in: 0...400, using: &random)))
            tier.fail(false)
            let before = log.all.count
            try await RedisFixture.eventually("it to go on") { log.all.count > before }
          }
          _ = await log.stop()
          #expect(log.gaps == 0 && log.snapshots.count == (round == 0 ? 1 : 0), "round \(round)")
        }
        load.cancel()
        _ = await load.result
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        #expect(try await RedisFixture.restoredDigest(try #require(manifest), repository, to: .latest) == digest)
        let lines = try await RedisFixture.archive(repository).lines()
        #expect(lines.count == 1 && lines[0].stretches.count == 1)
      }
    }
  }

  /// To each of several moments and offsets: two-sided, against what the server said then.
  @Test func pointsInTime() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.fill(server)
      try await RedisFixture.withRepository { repository, _ in
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        var moments: [(time: Date, offset: Int64, digest: String)] = []
        for round in 0..<3 {
          try await Self.write(server, 20 + round)
          let connection = try await RedisConnection.connect(server.settings, logger: RedisFixture.logger)
          for command in [["MULTI"], ["SET", "both", "\(round)"], ["INCRBYFLOAT", "float", "0.1"], ["EXEC"]] {
            try await connection.command(command)
          }
          await connection.close()
          try await log.waitUntilDurable(server)
          let offset = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
          moments.append((Date(), offset, try await RedisFixture.digest(server)))
          try await Task.sleep(for: .milliseconds(20))
        }
        try await Self.write(server)
        try await log.waitUntilDurable(server)
        try await log.stop().get()
        let manifest = log.snapshots[0]
        for moment in moments {
          #expect(try await RedisFixture.restoredDigest(manifest, repository, to: .time(moment.time)) == moment.digest)
          #expect(
            try await RedisFixture.restoredDigest(manifest, repository, to: .position("\(moment.offset)"))
              == moment.digest)
        }
        // An offset in the middle of a transaction is the state before it.
        let replay = try #require(
          try await RedisReplay.find(manifest, to: .position("\(moments[0].offset)"), in: log.archive))
        #expect(replay.commands > 20 && replay.end.offset == moments[0].offset)
        for offset in moments[0].offset - 200..<moments[0].offset {
          guard let part = try await RedisReplay.find(manifest, to: .position("\(offset)"), in: log.archive) else {
            continue
          }
          #expect(part.end.offset <= offset)
          let stream = try await part.stream.collect(limit: 1 << 30)
          let text = String(buffer: stream)
          #expect(text.components(separatedBy: "MULTI").count == text.components(separatedBy: "EXEC").count)
        }
        for target in [
          RecoveryTarget.time(Date() + 100), .position("99999999999"), .time(manifest.recoveryPoint.time - 1),
        ] {
          let error = await #expect(throws: DRError.self) {
            _ = try await RedisReplay.find(manifest, to: target, in: log.archive)
          }
          #expect(error?.code == .targetUnreachable)
        }
        let unknown = await #expect(throws: DRError.self) {
          _ = try await RedisReplay.find(manifest, to: .name("x"), in: log.archive)
        }
        #expect(unknown?.code == .invalidConfiguration)
      }
    }
  }

  /// What is changed while a snapshot is on its way comes in one block behind it, which says nothing of when it was made.
  @Test(arguments: ["yes", "no"]) func noTimesWhileASnapshotIsSent(diskless: String) async throws {
    let settings = ["rdb-key-save-delay": "100", "repl-diskless-sync": diskless]
    try await RedisFixture.withServer(RedisFixture.options(settings)) { server in
      try await server.command("DEBUG", "POPULATE", "8000")
      try await RedisFixture.withRepository { repository, _ in
        let load = Task {
          while !Task.isCancelled {
            try await server.command("INCR", "n")
            try await Task.sleep(for: .milliseconds(2))
          }
        }
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        let manifest = log.snapshots[0]
        let sent = Date()
        try await Task.sleep(for: .milliseconds(300))
        var marks: [(time: Date, before: Int64, after: Int64)] = []
        for _ in 0..<3 {
          let before = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
          try await Task.sleep(for: .milliseconds(100))
          let time = Date()
          let after = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
          marks.append((time, before, after))
        }
        load.cancel()
        _ = await load.result
        try await log.waitUntilDurable(server)
        try await log.stop().get()

        let begin = manifest.recoveryPoint.time
        try #require(sent.timeIntervalSince(begin) > 0.5)
        for part in [0.01, 0.3, 0.6] {
          let error = await #expect(throws: DRError.self) {
            let time = begin + sent.timeIntervalSince(begin) * part
            _ = try await RedisReplay.find(manifest, to: .time(time), in: log.archive)
          }
          #expect(error?.code == .targetUnreachable && error?.message.contains("has no times between") == true)
          #expect(error?.message.contains("nothing was touched") == true)
          #expect(
            error?.advice?.contains("from \(manifest.recoveryPoint.position) to ") == true,
            "\(String(describing: error))")
        }
        for mark in marks {
          let replay = try await RedisReplay.find(manifest, to: .time(mark.time), in: log.archive)
          let end = try #require(replay).end.offset
          #expect(mark.before <= end && end <= mark.after)
        }
        #expect(try await RedisReplay.find(manifest, to: .position("\(marks[0].before)"), in: log.archive) != nil)
      }
    }
  }

  /// The stock tools open it: `zstd -d` gives an append-only file, which `redis-check-aof` cuts at a time and a server
  /// loads.
  @Test func stockToolsOpenSegments() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await Self.write(server)
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await Task.sleep(for: .milliseconds(2100))
        let cut = Int(Date().timeIntervalSince1970) - 1
        try await Self.write(server)
        try await server.command("PUBLISH", "news", "for replicas alone")
        try await log.waitUntilDurable(server)
        try await log.stop().get()

        let data = folder + "/data/appendonlydir"
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        // An empty server's snapshot is its base.
        let dump = try await repository.reader(for: log.snapshots[0]).read(log.snapshots[0].artifact("dump.rdb"))
          .collect(limit: 1 << 20)
        try Data(dump.readableBytesView).write(to: URL(filePath: data + "/appendonly.aof.1.base.rdb"))
        let files = try FileManager.default.subpathsOfDirectory(atPath: folder + "/repository/redis/aof")
          .filter { $0.hasSuffix(".zst") }.sorted()
        let unpacked = try await runCommand(
          "zstd", ["-dcq"] + files.map { folder + "/repository/redis/aof/" + $0 })
        #expect(unpacked.status == 0, "\(unpacked.error)")
        try Data(unpacked.output).write(to: URL(filePath: data + "/appendonly.aof.1.incr.aof"))
        try "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"
          .write(toFile: data + "/appendonly.aof.manifest", atomically: true, encoding: .utf8)
        let sound = try await RedisFixture.program(server, "redis-check-aof", [data + "/appendonly.aof.manifest"])
        #expect(sound.0 == 0, "\(sound.1)")
        let truncated = try await RedisFixture.program(
          server, "redis-check-aof", ["--truncate-to-timestamp", "\(cut)", data + "/appendonly.aof.manifest"])
        #expect(truncated.0 == 0 && truncated.1.contains("Successfully truncated"), "\(truncated.1)")
        let restored = try await RedisSandbox.prepare(
          RedisFixture.options(appendOnly: true), dataFolder: folder + "/data", logger: RedisFixture.logger)
        try await RedisSandbox.with(restored) { restored in
          try await restored.start()
          #expect(try await RedisFixture.digest(restored) == digest)
        }
        // And what the library makes of it for a restore by file holds only what changes data.
        let replay = try #require(try await RedisReplay.find(log.snapshots[0], to: .latest, in: log.archive))
        let text = String(buffer: try await replay.appendOnlyFile.collect(limit: 1 << 30))
        #expect(text.contains("#TS:") && !text.contains("\r\nping\r\n") && !text.contains("REPLCONF"))
        #expect(!text.contains("for replicas alone"))
        let served = String(buffer: try await replay.stream.collect(limit: 1 << 30))
        #expect(served.contains("for replicas alone") && served.utf8.count == Int(replay.bytes))
      }
    }
  }

  /// A host that has only public keys goes on after a restart, for the names say where the log ends.
  @Test func goesOnWithoutBeingAbleToDecrypt() async throws {
    let identity = AgeIdentity.generate()
    let recipient = try #require(identity.recipient)
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        var archive = try RedisFixture.archive(repository)
        archive.encoding = Encoding(recipients: [recipient])
        let first = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
        try await first.stop().get()
        for _ in 0..<3 {
          let log = try RunningLog(archive, server)
          try await Self.write(server)
          try await log.waitUntilDurable(server)
          try await log.stop().get()
        }
        let digest = try await RedisFixture.digest(server)
        archive.decoding = Decoding(identities: [identity])
        try await RedisFixture.withServer { target in
          let restorer = RedisOnlineRestorer(server: target.settings, archive: archive)
          _ = try await restorer.restore(
            from: repository.reader(for: first.snapshots[0], decoding: archive.decoding), to: .latest,
            logger: RedisFixture.logger)
          #expect(try await RedisFixture.digest(target) == digest)
        }
      }
    }
  }

  @Test func aServiceEndsInGoodOrder() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let durable = MutableBox<Int64>(-1)
        let log = try RedisChangeLog(
          archive: RedisFixture.archive(repository), server: server.settings,
          options: RunningLog.options { $0.partialInterval = .seconds(600) }, logger: RedisFixture.logger,
          onDurable: { point in durable.withLock { $0 = Int64(point.position) ?? -1 } })
        let group = ServiceGroup(services: [log], logger: RedisFixture.logger)
        let running = Task { try await group.run() }
        try await RedisFixture.eventually("the replica") {
          try await RedisFixture.info(server, "replication").parts("slave0")["state"] == "online"
        }
        try await Self.write(server)
        let offset = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
        try await Task.sleep(for: .milliseconds(300))
        #expect(durable.value == -1)
        await group.triggerGracefulShutdown()
        try await running.value
        // What was received is stored at the end, long before it was due.
        #expect(durable.value >= offset)
      }
    }
  }
}
