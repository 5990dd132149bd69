import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What is said twice has to be the same: offsets by the server and by its data set, numbers of keys by the data set, by
/// who reads it, and by the server that has loaded it.
@Suite(.serialized) struct RedisAgreementTests {
  // MARK: Offsets

  /// A replica that comes while the server saves for another one is given that save, and the offset where it began: the
  /// change log goes on from there, not from where the server was when it answered.
  @Test func aSaveThatRunsForAnotherReplica() async throws {
    let settings = ["repl-diskless-sync": "no", "rdb-key-save-delay": "1000", "repl-backlog-size": "64mb"]
    try await RedisFixture.withServer(RedisFixture.options(settings)) { server in
      try await RedisFixture.fill(server, keys: 1000)
      try await RedisFixture.withRepository { first, _ in
        try await RedisFixture.withRepository { second, _ in
          let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
          let running = Task { try await first.backUp(source, cadence: .hourly, logger: RedisFixture.logger) }
          try await RedisFixture.eventually("the child to save") {
            try await RedisFixture.info(server, "persistence").integer("rdb_bgsave_in_progress") == 1
          }
          for index in 0..<50 { try await server.command("SET", "during:\(index)", "\(index)", database: 3) }
          let offset = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
          let log = try RunningLog(RedisFixture.archive(second), server)
          try await RedisFixture.eventually("the snapshot of the change log") { !log.snapshots.isEmpty }
          let manifest = try await running.value
          let snapshot = try #require(log.snapshots.first)
          #expect(snapshot.recoveryPoint.position == manifest.recoveryPoint.position)
          #expect(try #require(Int64(snapshot.recoveryPoint.position)) < offset)
          #expect(try snapshot.artifact("dump.rdb").rawSHA256 == manifest.artifact("dump.rdb").rawSHA256)
          try await server.command("SET", "after", "it", database: 3)
          try await log.waitUntilDurable(server)
          let digest = try await RedisFixture.digest(server)
          try await log.stop().get()
          #expect(log.gaps == 0 && log.snapshots.count == 1)
          #expect(try await RedisFixture.restoredDigest(snapshot, second, to: .latest) == digest)
        }
      }
    }
  }

  /// A file that the server saved in the middle of a stream that is followed says itself where it stands, and in which
  /// database the stream was: the change log goes on from there, in every form of restore.
  @Test func aFileFromTheMiddleOfTheStream() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.fill(server, keys: 50)
      try await RedisFixture.withRepository { repository, folder in
        let archive = try RedisFixture.archive(repository)
        let log = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await RedisFixture.eventually("the end of the snapshot's child") {
          try await RedisFixture.info(server, "persistence")["rdb_bgsave_in_progress"] == "0"
        }
        try await server.command("SET", "where", "before", database: 3)
        let before = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
        try await server.command("SAVE")
        let after = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
        let path = folder + "/saved.rdb"
        try FileManager.default.copyItem(atPath: server.dataFolder + "/dump.rdb", toPath: path)
        // No SELECT comes before these in the stream.
        for index in 0..<20 { try await server.command("RPUSH", "where else", "\(index)", database: 3) }
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        let manifest = try await repository.backUp(
          RedisSnapshot(component: try RedisFixture.component(), file: path), cadence: .daily,
          logger: RedisFixture.logger)
        let position = try #require(Int64(manifest.recoveryPoint.position))
        #expect((before...after).contains(position))
        #expect(position > Int64(log.snapshots[0].recoveryPoint.position) ?? .max)
        #expect(manifest.recoveryPoint.history == log.snapshots[0].recoveryPoint.history)
        #expect(try await RedisFixture.restoredDigest(manifest, repository, to: .latest) == digest)
        for kind in [RedisDataLayout.AppendOnly.folder, .singleFile] {
          let data = "\(folder)/\(kind)"
          let report = try await RedisFileRestorer(
            layout: RedisDataLayout(folder: data, appendOnly: kind), archive: archive
          ).restoreFiles(from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
          #expect(report.commands >= 20)
          let restored = try await LocalRedis.with(["--appendonly", "yes"], in: data) { try await $0.digest() }
          #expect(restored == digest, "\(kind)")
        }
      }
    }
  }

  /// A server that announces another offset than its data set has: whichever the change log went on from, it could be wrong.
  @Test(arguments: [Int64(-1), 1, 1000])
  func aServerThatSaysTwoOffsets(difference: Int64) async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.fill(server)
      try await RedisFixture.withRepository { repository, folder in
        let announced = MutableBox<Int64>(0)
        let alteration = AlteringProxy.Alteration(line: { id, offset in
          announced.withLock { $0 = offset + difference }
          return ByteBuffer(string: "+FULLRESYNC \(id) \(offset + difference)\r\n")
        })
        let component = try RedisFixture.component()
        // Without an alteration, the same way.
        let whole = AlteringProxy.Alteration(line: { ByteBuffer(string: "+FULLRESYNC \($0) \($1)\r\n") })
        let manifest = try await AlteringProxy.with(server.settings, in: folder, whole) { same in
          try await repository.backUp(
            RedisSnapshot(component: component, server: same), cadence: .hourly, logger: RedisFixture.logger)
        }
        #expect(manifest.properties["keys"]?.integer ?? 0 > 600)
        for index in 0..<5 { try await server.command("SET", "later", "\(index)") }
        let error = try await AlteringProxy.with(server.settings, in: folder, alteration) { altered in
          await #expect(throws: DRError.self) {
            try await repository.backUp(
              RedisSnapshot(component: component, server: altered), cadence: .daily, logger: RedisFixture.logger)
          }
        }
        let said = "announced offset \(announced.value), and the data set is of offset \(announced.value - difference)"
        #expect(error?.code == .sourceFailed && error?.message.contains(said) == true, "\(String(describing: error))")
        #expect(try await repository.catalog(of: component).backups.map(\.id) == [manifest.id])
      }
    }
  }

  // MARK: Numbers of keys

  /// `RESIZEDB` is a hint for a server: what a server's own data set states is what it has, and one that states something
  /// else is not taken from it. A file by another program is, and the manifest says so.
  @Test func aDataSetThatSaysOtherNumbers() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.fill(server)
      try await RedisFixture.withRepository { repository, folder in
        let component = try RedisFixture.component()
        try await server.command("SAVE")
        let own = try await RDBFile.open(server.dataFolder + "/dump.rdb")
        let summary = try await RDBSummary.reading(own.content, object: "dump.rdb")
        #expect(summary.statedKeysPerDatabase == summary.keysPerDatabase && summary.keysPerDatabase.count == 2)
        #expect(summary.statedExpiriesPerDatabase == [0: 300, 3: 0])
        #expect(summary.disagreement == nil)

        var forge = RDBForge(version: "0010")
        forge.add([254, 0, 251, 3, 1])
        forge.key("one", 0, RDBForge.string("x"))
        forge.key("two", 0, RDBForge.string("x"))
        let forged = forge.file()
        let said = "database 0 is said to have 3 keys, 1 with a time to live, and has 2 and 0"
        let data = folder + "/forged"
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: false)
        try Data(forged).write(to: URL(filePath: data + "/dump.rdb"))
        // What a server makes of it.
        #expect(try await LocalRedis.with(in: data) { try await $0.keys() } == 2)
        try Data(forged).write(to: URL(filePath: data + "/dump.rdb"))
        let manifest = try await repository.backUp(
          RedisSnapshot(component: component, file: data + "/dump.rdb"), cadence: .hourly, logger: RedisFixture.logger)
        #expect(manifest.properties["disagreement"]?.string == said)
        #expect(manifest.properties["keysPerDatabase"]?.object?["0"]?.integer == 2)

        let alteration = AlteringProxy.Alteration(
          line: { id, offset in
            var bytes = ByteBuffer(string: "+FULLRESYNC \(id) \(offset)\r\n$\(forged.count)\r\n")
            bytes.writeBytes(forged)
            return bytes
          }, keepsTheRest: true)
        let error = try await AlteringProxy.with(server.settings, in: folder, alteration) { altered in
          await #expect(throws: DRError.self) {
            try await repository.backUp(
              RedisSnapshot(component: component, server: altered), cadence: .daily, logger: RedisFixture.logger)
          }
        }
        #expect(error?.code == .sourceDamaged && error?.message.contains(said) == true, "\(String(describing: error))")
        #expect(try await repository.catalog(of: component).backups.map(\.id) == [manifest.id])
      }
    }
  }

  /// A target needs ten times the memory of the source for the same hashes, which all have a time to live: with `maxmemory`
  /// as at the source it evicts them, or takes no writes. As a replica it ignores that, or not.
  @Test(arguments: [
    ("allkeys-lru", "yes", "evicted"), ("volatile-ttl", "no", "keys, and the backup 400"),
    ("noeviction", "yes", "it will refuse writes"),
  ])
  func aTargetThatHasNoRoomForIt(policy: String, ignores: String, says: String) async throws {
    let compact = RedisFixture.options(["hash-max-listpack-entries": "10000"])
    try await RedisFixture.withRepository { repository, _ in
      let manifest = try await RedisFixture.withServer(compact) { server in
        let script = """
          for i = 1, 400 do
            for field = 1, 500 do redis.call('HSET', 'hash:' .. i, field, field) end
            redis.call('EXPIRE', 'hash:' .. i, 100000)
          end
          """
        try await server.command("EVAL", script, "0")
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        return try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
      }
      let needed = try #require(manifest.properties["usedMemory"]?.integer)
      let loose = RedisFixture.options([
        "hash-max-listpack-entries": "1", "maxmemory": "\(needed + 1 << 20)", "maxmemory-policy": policy,
        "replica-ignore-maxmemory": ignores,
      ])
      try await RedisFixture.withServer(loose) { server in
        let error = await #expect(throws: DRError.self) {
          _ = try await RedisOnlineRestorer(server: server.settings).restore(
            from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        }
        #expect(error?.message.contains(says) == true, "\(String(describing: error))")
        #expect(error?.message.contains("the target holds the restored data, but") == true)
        #expect(error?.advice?.contains("maxmemory") == true)
        #expect(try await RedisFixture.info(server)["role"] == "master")
        if policy == "noeviction" {
          // It has all of them, and takes no more.
          let (size, answer) = try await (
            server.command("DBSIZE").integer,
            RedisConnection.withConnection(server.settings, logger: RedisFixture.logger) {
              try await $0.send(["SET", "new", "key"])
            }
          )
          var kind = "none"
          if case .error(let refusal) = answer { kind = refusal.kind }
          #expect(size == 400 && kind == "OOM")
        }
      }
    }
  }

  /// Keys whose time passes between the backup and its restore are loaded, counted, and gone when the target is a master.
  @Test(arguments: [true, false])
  func keysWhoseTimeHasPassed(appendOnly: Bool) async throws {
    try await RedisFixture.withRepository { repository, _ in
      let (manifest, digest) = try await RedisFixture.withServer { server in
        try await RedisFixture.fill(server)
        let size = try await server.command("DBSIZE").integer
        let script = "for i = 1, 200 do redis.call('SET', 'soon:' .. i, 'gone', 'PX', 3000) end"
        try await server.command("EVAL", script, "0")
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        try await RedisFixture.eventually("them to be gone here") {
          try await server.command("DBSIZE").integer == size
        }
        return (manifest, try await RedisFixture.digest(server))
      }
      #expect(manifest.properties["expiriesPerDatabase"]?.object?["0"]?.integer == 500)
      try await RedisFixture.withServer(RedisFixture.options(appendOnly: appendOnly)) { server in
        let outcome = try await RedisOnlineRestorer(server: server.settings).restore(
          from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        #expect(outcome.items == manifest.properties["keys"]?.integer.map { Int($0) })
        try await RedisFixture.eventually("them to be gone there too") {
          try await RedisFixture.digest(server) == digest
        }
      }
    }
  }
}
