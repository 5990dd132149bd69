import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// A tier or a server that is slow, away, or hangs.
extension RedisChangeLogTests {
  /// A tier that is away: changes wait, in memory and then in a file; the server is not made to wait.
  @Test func spoolsWhileTheTierIsAway() async throws {
    try await RedisFixture.withServer(
      RedisFixture.options(["client-output-buffer-limit": "replica 1mb 1mb 1"])
    ) { server in
      try await RedisFixture.withRepository { repository, folder in
        let tier = DyingTier(repository.tier)
        let archive = RedisLogArchive(tier: tier, component: try RedisFixture.component())
        let log = try RunningLog(
          archive, server,
          RunningLog.options {
            $0.spoolMemory = 128 << 10
            $0.spoolFolder = folder
          })
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await log.waitUntilDurable(server)
        tier.fail(true)
        let value = String(repeating: "x", count: 4000)
        for index in 0..<2000 { try await server.command("SET", "key:\(index % 100)", value) }
        // The server holds nothing back for us, and has not dropped us.
        try await RedisFixture.eventually("the stream to be taken") {
          // What waits for it: a last block of the server's buffer is always counted.
          let client = try await server.command("CLIENT", "LIST", "TYPE", "replica").text ?? ""
          let waiting = client.firstMatch(of: /omem=(\d+)/).flatMap { Int($0.1) }
          return waiting.map { $0 < 300_000 } ?? false
        }
        tier.fail(false)
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        #expect(log.gaps == 0 && log.resumptions == 0)
        #expect(try await RedisFixture.restoredDigest(log.snapshots[0], repository, to: .latest) == digest)
      }
    }
  }

  /// A tier that takes nothing for three times `repl-timeout` while a snapshot is stored: the data set and what is written
  /// meanwhile wait here, with their moments, and the server waits for nothing.
  @Test(arguments: ["yes", "no"])
  func aSlowTierIsBorne(diskless: String) async throws {
    let settings = [
      "repl-timeout": "3", "repl-diskless-sync": diskless, "rdbcompression": "no",
      "client-output-buffer-limit": "replica 4mb 4mb 1", "repl-backlog-size": "64kb",
    ]
    try await RedisFixture.withServer(RedisFixture.options(settings)) { server in
      try await RedisFixture.fill(server)
      let large = "for i = 1, 640 do redis.call('SET', ARGV[1] .. i, string.rep(i .. ' ', 25000)) end"
      try await server.command("EVAL", large, "0", "before:")
      try await RedisFixture.withRepository { repository, folder in
        let tier = DyingTier(repository.tier)
        // The first are the lease, and the marker of the backup, which comes before the data set is read.
        tier.dawdle(.seconds(9), after: 2, count: 1)
        let begin = ContinuousClock.now
        let log = try RunningLog(
          RedisLogArchive(tier: tier, component: try RedisFixture.component()), server,
          RunningLog.options { options in
            options.spoolMemory = 1 << 20
            options.spoolFolder = folder
            // Not renewed before the data set is stored.
            options.leaseLife = .seconds(30)
          })
        try await RedisFixture.eventually("the server to have sent everything", within: .seconds(8)) {
          try await RedisFixture.info(server, "replication").parts("slave0")["state"] == "online"
        }
        try await server.command("SET", "moment", "first")
        try await Task.sleep(for: .milliseconds(500))
        let (moment, digest) = (Date(), try await RedisFixture.digest(server))
        try await Task.sleep(for: .milliseconds(200))
        try await server.command("SET", "moment", "second")
        for part in 1...4 {
          try await server.command("EVAL", large.replacing("640", with: "30"), "0", "meanwhile:\(part):")
          try await RedisFixture.eventually("the stream to be taken") {
            let client = try await server.command("CLIENT", "LIST", "TYPE", "replica").text ?? ""
            return client.firstMatch(of: /omem=(\d+)/).flatMap { Int($0.1) }.map { $0 < 1_000_000 } ?? false
          }
        }
        #expect(log.snapshots.isEmpty && begin.duration(to: .now) < .seconds(9), "the tier has not stood still")
        try await RedisFixture.eventually("the snapshot", within: .seconds(60)) { !log.snapshots.isEmpty }
        #expect(begin.duration(to: .now) >= .seconds(9))
        try await log.waitUntilDurable(server)
        let last = try await RedisFixture.digest(server)
        try await log.stop().get()
        #expect(log.gaps == 0 && log.resumptions == 0 && log.snapshots.count == 1)
        let snapshot = try #require(log.snapshots.first)
        #expect(try await RedisFixture.restoredDigest(snapshot, repository, to: .latest) == last)
        #expect(try await RedisFixture.restoredDigest(snapshot, repository, to: .time(moment)) == digest)
      }
    }
  }

  /// What is written while the snapshot is stored is more than the server keeps for us: it drops us, and we begin again.
  @Test func aServerThatDropsUsUnderLoad() async throws {
    try await RedisFixture.withServer(
      RedisFixture.options(["client-output-buffer-limit": "replica 1mb 1mb 1", "repl-backlog-size": "64kb"])
    ) { server in
      try await RedisFixture.fill(server)
      try await RedisFixture.withRepository { repository, _ in
        let tier = DyingTier(repository.tier)
        tier.dawdle(.seconds(3))
        let log = try RunningLog(
          RedisLogArchive(tier: tier, component: try RedisFixture.component()), server,
          RunningLog.options { $0.leaseLife = .seconds(30) })
        try await RedisFixture.eventually("the replica") {
          try await RedisFixture.info(server, "replication").parts("slave0")["state"] == "online"
        }
        let script = "for i = 1, 3000 do redis.call('SET', 'large:' .. i % 100, string.rep(i .. ' ', 1000)) end"
        try await server.command("EVAL", script, "0")
        try await RedisFixture.eventually("being dropped") {
          try await RedisFixture.info(server, "replication")["connected_slaves"] == "0"
        }
        tier.dawdle(.zero)
        try await RedisFixture.eventually("a snapshot behind it") { log.gaps == 1 && log.snapshots.count == 2 }
        try await Self.write(server)
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        #expect(try await RedisFixture.restoredDigest(log.snapshots[1], repository, to: .latest) == digest)
      }
    }
  }

  /// A server that says nothing any more, with its connection standing: left, asked again, and gone on with.
  @Test func aServerThatHangs() async throws {
    try await RedisFixture.withServer(RedisFixture.options(["repl-ping-replica-period": "1"])) { server in
      try await RedisFixture.withRepository { repository, _ in
        var settings = server.settings
        (settings.timeLimit, settings.connectTimeout) = (.seconds(2), .seconds(2))
        let log = try RunningLog(
          RedisFixture.archive(repository), server, RunningLog.options { $0.silenceLimit = .seconds(5) },
          settings: settings)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await Self.write(server)
        try await log.waitUntilDurable(server)
        let process = try #require(await server.processID)
        kill(process, SIGSTOP)
        try await Task.sleep(for: .seconds(9))
        kill(process, SIGCONT)
        try await RedisFixture.eventually("it to go on") { log.resumptions > 0 }
        try await Self.write(server)
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        #expect(log.gaps == 0 && log.snapshots.count == 1)
        #expect(try await RedisFixture.restoredDigest(log.snapshots[0], repository, to: .latest) == digest)
      }
    }
  }
}
