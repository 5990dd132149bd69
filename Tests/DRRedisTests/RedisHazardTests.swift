import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What has cost others their data, and is no other suite's matter.
@Suite(.serialized) struct RedisHazardTests {
  /// Times to live that are renewed, set, taken away or run out while the data set is being sent (RedisShake 244).
  @Test func timesToLiveThatChangeDuringTheSnapshot() async throws {
    try await RedisFixture.withServer(RedisFixture.options(["rdb-key-save-delay": "500"])) { server in
      try await RedisFixture.fill(server, keys: 2000)
      for name in ["renewed", "shortened", "persistent", "gone"] {
        try await server.command("SET", name, name, "EX", name == "gone" ? "2" : "1000")
      }
      try await server.command("SET", "set", "set")
      try await RedisFixture.withRepository { repository, _ in
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the child to save") {
          try await RedisFixture.info(server, "persistence").integer("rdb_bgsave_in_progress") == 1
        }
        try await server.command("EXPIRE", "renewed", "50000")
        try await server.command("EXPIRE", "shortened", "500")
        try await server.command("PERSIST", "persistent")
        try await server.command("EXPIRE", "set", "2000")
        #expect(try await RedisFixture.info(server, "persistence").integer("rdb_bgsave_in_progress") == 1)
        #expect(log.snapshots.isEmpty)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await RedisFixture.eventually("one to run out") { try await server.command("EXISTS", "gone").integer == 0 }
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        let snapshot = try #require(log.snapshots.first)
        let restored = try await RedisFixture.restoredDigest(snapshot, repository, to: .latest) { restored in
          for name in ["renewed", "shortened", "persistent", "set", "gone"] {
            let times = try await (
              restored.command("PEXPIRETIME", name).integer, server.command("PEXPIRETIME", name).integer
            )
            #expect(times.0 == times.1 && times.0 != nil, "\(name)")
          }
        }
        #expect(restored == digest)
        // The snapshot alone is of the moment before.
        _ = try await RedisFixture.restoredDigest(snapshot, repository, to: .immediate) { restored in
          let renewed = try await restored.command("TTL", "renewed").integer
          let set = try await restored.command("TTL", "set").integer
          #expect(renewed.map { $0 <= 1000 } == true && set == -1)
        }
      }
    }
  }

  private static func withBackup(_ body: (Repository, BackupManifest, String) async throws -> Void) async throws {
    try await RedisFixture.withRepository { repository, _ in
      let (manifest, digest) = try await RedisFixture.withServer { server in
        try await RedisFixture.fill(server)
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        return (manifest, try await RedisFixture.digest(server))
      }
      try await body(repository, manifest, digest)
    }
  }

  /// The rights that the online restorer is documented to need on the target, and no more.
  @Test func aTargetsUserWithFiveRights() async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer { server in
        try await server.command(
          "ACL", "SETUSER", "restorer", "on", ">geheim", "+replicaof", "+info", "+ping", "+config|get", "+bgsave")
        var settings = server.settings
        (settings.user, settings.password) = ("restorer", .value("geheim"))
        _ = try await RedisOnlineRestorer(server: settings).restore(
          from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        #expect(try await RedisFixture.digest(server) == digest)
        #expect(try await RedisFixture.info(server)["role"] == "master")
        try await server.kill()
        try await server.start()
        #expect(try await RedisFixture.digest(server) == digest)
      }
    }
  }

  /// The target has the data and cannot write it down: that is no success, for a crash would bring the old data back. One
  /// that has to write a file before it loads keeps what it had.
  @Test(arguments: [true, false])
  func aTargetThatCannotWriteItsDisk(isEmpty: Bool) async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer { server in
        if !isEmpty { try await server.command("SET", "precious", "data") }
        let before = try await RedisFixture.digest(server)
        chmod(server.dataFolder, 0o555)
        defer { chmod(server.dataFolder, 0o755) }
        let error = await Self.failure(manifest, repository, server)
        let (found, info) = try await (RedisFixture.digest(server), RedisFixture.info(server))
        #expect(info["role"] == "master" && error?.advice?.contains("disk") == true, "\(String(describing: error))")
        if isEmpty {
          #expect(error?.message.contains("a crash would bring the old data back") == true)
          #expect(found == digest)
        } else {
          #expect(error?.message.contains("before it had taken everything") == true, "\(String(describing: error))")
          #expect(error?.message.contains("holds what it held before, 1 keys") == true, "\(String(describing: error))")
          #expect(error?.advice?.contains("free at least") == true)
          #expect(found == before)
        }
      }
    }
  }

  private static func failure(
    _ manifest: BackupManifest, _ repository: Repository, _ server: RedisSandbox, as user: String? = nil
  ) async -> DRError? {
    var settings = server.settings
    if let user { (settings.user, settings.password) = (user, .value("geheim")) }
    var restorer = RedisOnlineRestorer(server: settings)
    restorer.existingData = .discard
    restorer.loadLimit = .seconds(60)
    do {
      _ = try await restorer.restore(from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
      return nil
    } catch {
      return error as? DRError
    }
  }

  /// The disk is full, or as good as: no file of the target may grow beyond what holds no data set. Said at once, and not
  /// only when a server with an append-only file, which tries again for ever, would have been waited for long enough.
  @Test(arguments: [true, false])
  func aDiskThatIsFull(appendOnly: Bool) async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer(RedisFixture.options(appendOnly: appendOnly)) { server in
        let process = try #require(await server.processID)
        func limit(_ size: String) async throws {
          // As the server's user: root in a container may have less right to it than that user.
          let user =
            server.user.map { ["setpriv", "--reuid", "\($0.userID)", "--regid", "\($0.groupID)", "--clear-groups"] }
            ?? []
          let words = user + ["prlimit", "--pid", "\(process)", "--fsize=\(size)"]
          let limited = try await runCommand("env", words)
          #expect(limited.status == 0, "\(limited.error)")
        }
        try await limit("16384:unlimited")
        let begin = ContinuousClock.now
        let error = await Self.failure(manifest, repository, server)
        #expect(begin.duration(to: .now) < .seconds(30))
        #expect(
          error?.message.contains("a crash would bring the old data back") == true, "\(String(describing: error))")
        #expect(error?.advice?.contains(appendOnly ? "BGREWRITEAOF" : "BGSAVE") == true)
        let (restored, info) = try await (RedisFixture.digest(server), RedisFixture.info(server))
        #expect(restored == digest && info["role"] == "master")
        // What it says is so: it comes back with what it had, which is nothing. And what it advises helps.
        if appendOnly {
          try await server.kill()
          try await server.start()
          #expect(try await server.command("DBSIZE").integer == 0)
          let again = await Self.failure(manifest, repository, server)
          #expect(again == nil, "\(String(describing: again))")
        } else {
          try await limit("unlimited")
          try await server.command("BGSAVE")
          try await RedisFixture.eventually("the save") {
            let now = try await RedisFixture.info(server, "persistence")
            return now["rdb_bgsave_in_progress"] == "0" && now["rdb_last_bgsave_status"] == "ok"
          }
        }
        try await server.kill()
        try await server.start()
        #expect(try await RedisFixture.digest(server) == digest)
      }
    }
  }

  /// A server that has loaded a data set and cannot begin its append-only file ends itself. It is found before; where the
  /// user may not try, what became of the target is said.
  @Test func anAppendOnlyFileThatCannotBeBegun() async throws {
    try await Self.withBackup { repository, manifest, _ in
      try await RedisFixture.withServer(RedisFixture.options(appendOnly: true)) { server in
        try await server.command("SET", "precious", "data")
        let before = try await RedisFixture.digest(server)
        let folder = server.dataFolder + "/appendonlydir"
        chmod(folder, 0o555)
        defer { chmod(folder, 0o755) }
        let found = await Self.failure(manifest, repository, server)
        #expect(found?.message.contains("nothing was touched") == true, "\(String(describing: found))")
        #expect(found?.advice?.contains("BGREWRITEAOF") == true)
        #expect(try await RedisFixture.digest(server) == before)

        try await server.command(
          "ACL", "SETUSER", "restorer", "on", ">geheim", "+replicaof", "+info", "+ping", "+config|get", "+bgsave")
        let ended = await Self.failure(manifest, repository, server, as: "restorer")
        #expect(ended?.message.contains("its process has ended") == true, "\(String(describing: ended))")
        #expect(ended?.advice?.contains("append-only file that cannot be written") == true)
        try await RedisFixture.eventually("its end to be reported") { await server.processID == nil }
        chmod(folder, 0o755)
        // As the error says: what its own files hold.
        try await server.start()
        #expect(try await RedisFixture.digest(server) == before)
      }
    }
  }

  /// The target saves by itself while it takes the changes: that file lacks the last of them, and another one follows.
  @Test func aSaveThatRunsWhileChangesAreTaken() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        for round in 0..<6 {
          try await server.command(
            "EVAL", "for i = 1, 300 do redis.call('SET', ARGV[1] .. i, string.rep(i .. ' ', 100)) end", "0", "\(round):"
          )
          try await log.waitUntilDurable(server)
        }
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        let slow = RedisFixture.options(["save": "1 1", "rdb-key-save-delay": "2000"])
        try await RedisFixture.withServer(slow) { target in
          // A second has to pass since its start before it saves.
          try await Task.sleep(for: .milliseconds(1500))
          let tier = DyingTier(repository.tier)
          var restorer = RedisOnlineRestorer(
            server: target.settings, archive: RedisLogArchive(tier: tier, component: try RedisFixture.component()))
          restorer.onStep = { if $0 == .checked { tier.dawdle(.milliseconds(300)) } }
          let restoring = Task { [restorer] in
            try await restorer.restore(
              from: repository.reader(for: log.snapshots[0]), to: .latest, logger: RedisFixture.logger)
          }
          try await RedisFixture.eventually("a save during the changes") {
            let info = try await RedisFixture.info(target)
            return info["role"] == "slave" && info["rdb_bgsave_in_progress"] == "1"
          }
          _ = try await restoring.value
          try await target.kill()
          try await target.start()
          #expect(try await RedisFixture.digest(target) == digest)
        }
      }
    }
  }

  /// A segment of the change log is damaged or missing: the check says so, and a restore reaches what lies before it and
  /// nothing behind it.
  @Test(arguments: [true, false])
  func aSegmentThatIsDamagedOrMissing(isMissing: Bool) async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let archive = try RedisFixture.archive(repository)
        let log = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        var marks: [(position: String, digest: String)] = []
        let script = "for i = 1, 100 do redis.call('SET', ARGV[1] .. i, string.rep(i .. ' ', 500)) end"
        for round in 0..<4 {
          try await server.command("EVAL", script, "0", "\(round):")
          try await log.waitUntilDurable(server)
          marks.append((try #require(log.last).position, try await RedisFixture.digest(server)))
        }
        try await log.stop().get()
        let snapshot = log.snapshots[0]
        let check = RedisLogCheck(archive: archive, backups: [snapshot])
        let sound = try await check.verify(logger: RedisFixture.logger).filter { $0.severity != .passed }
        #expect(sound.isEmpty, "\(sound)")
        let orphaned = try await RedisLogCheck(archive: archive, backups: []).verify(logger: RedisFixture.logger)
          .filter { $0.severity == .warning }
        #expect(orphaned.map(\.check) == ["change-log-reach"] && orphaned[0].evidence.contains("no backup leads to"))

        let segments = try await archive.lines()[0].segments.filter { !$0.isPartial }
        try #require(segments.count >= 4)
        let broken = segments[segments.count / 2]
        let objects = try await repository.tier.listAll(prefix: "redis/aof/")
        let key = try #require(objects.first { $0.key.rawValue.contains(broken.name) }?.key)
        let path = "\(folder)/repository/\(key)"
        if isMissing {
          try FileManager.default.removeItem(atPath: path)
        } else {
          var bytes = try Data(contentsOf: URL(filePath: path))
          bytes[bytes.count / 2] ^= 4
          chmod(path, 0o600)
          try bytes.write(to: URL(filePath: path))
        }
        let findings = try await check.verify(logger: RedisFixture.logger)
        let found = findings.contains {
          isMissing
            ? $0.check == "change-log-gap" && $0.severity == .failure
              && $0.evidence.contains("\(broken.start) and \(broken.end)")
            : $0.check == "change-log-segment" && $0.severity == .failure && $0.subject == broken.name
        }
        #expect(found, "\(findings)")
        let before = try #require(marks.last { Int64($0.position) ?? .max <= broken.start })
        #expect(
          try await RedisFixture.restoredDigest(snapshot, repository, to: .position(before.position)) == before.digest)
        let error = await #expect(throws: DRError.self) {
          _ = try await RedisFixture.restoredDigest(snapshot, repository, to: .position(marks[3].position))
        }
        let codes: [DRError.Code] = isMissing ? [.targetUnreachable] : [.corruptData, .malformedData, .truncatedData]
        let code = try #require(error).code
        #expect(codes.contains(code), "\(String(describing: error))")
        guard isMissing else {
          #expect(error?.message.contains("nothing was touched") == true, "\(String(describing: error))")
          #expect(error?.message.contains("whole to offset \(broken.start),") == true)
          #expect(error?.advice?.contains("--target-offset \(broken.start)") == true)
          let reach = findings.filter { $0.check == "change-log-reach" }
          #expect(reach.map(\.severity) == [.failure] && reach[0].evidence.contains("through \(broken.start) only"))
          // Also the time that it advises, in front of what cannot be read.
          let moment = try #require(try await RedisReplay.find(snapshot, to: .position("\(broken.start)"), in: archive))
          let there = try await RedisReplay.find(snapshot, to: .time(moment.moment), in: archive)
          #expect(there?.end.offset == broken.start)
          return
        }
        #expect(error?.message.contains("reaches to offset \(broken.start)") == true)
        #expect(error?.message.contains("offset \(broken.start) to \(broken.end) of history \(broken.history)") == true)
        // Neither does it end before the hole without a word.
        try await RedisFixture.withServer { target in
          let online = RedisOnlineRestorer(server: target.settings, archive: archive)
          let short = await #expect(throws: DRError.self) {
            _ = try await online.restore(
              from: repository.reader(for: snapshot), to: .latest, logger: RedisFixture.logger)
          }
          #expect(short?.code == .targetUnreachable && short?.message.contains("nothing was touched") == true)
          #expect(short?.advice?.contains("--target-offset \(broken.start)") == true, "\(String(describing: short))")
          let (keys, info) = try await (target.command("DBSIZE").integer, RedisFixture.info(target))
          #expect(keys == 0 && info["role"] == "master" && info["master_replid2"]?.contains("1") != true)
          // As far as it says.
          let report = try await online.restoreServer(
            from: repository.reader(for: snapshot), to: .position("\(broken.start)"), logger: RedisFixture.logger)
          let there = try await target.command("DBSIZE").integer
          #expect(report.keys == there && report.reached.position == "\(broken.start)")
        }
      }
    }
  }
}
