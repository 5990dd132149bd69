import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Where the log cannot go on, or goes on under another history.
extension RedisChangeLogTests {
  /// Past the backlog the server cannot go on: the gap is named, and a new snapshot taken.
  @Test func aLostBacklogIsAGapAndANewSnapshot() async throws {
    try await RedisFixture.withServer(RedisFixture.options(["repl-backlog-size": "16kb"])) { server in
      try await RedisFixture.withRepository { repository, _ in
        let archive = try RedisFixture.archive(repository)
        let first = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
        try await Self.write(server)
        try await first.waitUntilDurable(server)
        let before = try await RedisFixture.digest(server)
        try await first.stop().get()
        for _ in 0..<20 { try await Self.write(server, 200) }

        var stubborn = RunningLog.options()
        stubborn.takesSnapshots = false
        let refusing = try RunningLog(archive, server, stubborn)
        try await RedisFixture.eventually("the gap") { refusing.gaps == 1 }
        let error = await #expect(throws: DRError.self) { try await refusing.stop().get() }
        #expect(error?.code == .changeLogGap)

        let second = try RunningLog(archive, server)
        try await RedisFixture.eventually("the second snapshot") { second.snapshots.count == 1 }
        #expect(second.gaps == 1)
        try await Self.write(server)
        try await second.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await second.stop().get()
        let findings = try await RedisLogCheck(archive: archive, backups: first.snapshots + second.snapshots)
          .verify(logger: RedisFixture.logger).filter { $0.check == "change-log-gap" }
        #expect(findings.map(\.severity) == [.warning], "\(findings)")
        // Each snapshot with what follows it.
        #expect(try await RedisFixture.restoredDigest(second.snapshots[0], repository, to: .latest) == digest)
        #expect(try await RedisFixture.restoredDigest(first.snapshots[0], repository, to: .latest) == before)
        let position = try #require(second.last).position
        let unreachable = await #expect(throws: DRError.self) {
          _ = try await RedisFixture.restoredDigest(first.snapshots[0], repository, to: .position(position))
        }
        #expect(unreachable?.code == .targetUnreachable)
      }
    }
  }

  /// A replica is made the master: the stream goes on under another ID. A server with another history: a new snapshot.
  @Test func failover() async throws {
    var options = RedisFixture.options()
    options.listensOnLoopback = true
    try await RedisFixture.withServer(options) { old in
      try await RedisFixture.fill(old)
      try await RedisFixture.withServer(options) { new in
        try await RedisFixture.withRepository { repository, _ in
          let archive = try RedisFixture.archive(repository)
          let first = try RunningLog(archive, old)
          try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
          try await new.command("REPLICAOF", "127.0.0.1", "\(try #require(old.nodes[0].port))")
          try await RedisFixture.eventually("the replica to be in sync") {
            try await RedisFixture.info(new, "replication")["master_link_status"] == "up"
          }
          try await Self.write(old)
          try await first.waitUntilDurable(old)
          let offset = try await RedisFixture.info(old, "replication").integer("master_repl_offset") ?? 0
          try await RedisFixture.eventually("the replica to have it") {
            try await RedisFixture.info(new, "replication").integer("master_repl_offset") ?? 0 >= offset
          }
          try await old.kill()
          try await new.command("REPLICAOF", "NO", "ONE")
          try await first.stop().get()
          let second = try RunningLog(archive, new)
          try await RedisFixture.eventually("it to go on") { second.resumptions == 1 }
          try await Self.write(new)
          try await second.waitUntilDurable(new)
          let digest = try await RedisFixture.digest(new)
          try await second.stop().get()
          #expect(second.gaps == 0 && second.snapshots.isEmpty)
          #expect(try await RedisFixture.restoredDigest(first.snapshots[0], repository, to: .latest) == digest)
          let point = try #require(second.last)
          #expect(point.history != first.snapshots[0].recoveryPoint.history)

          try await RedisFixture.withServer(options) { stranger in
            try await stranger.command("SET", "another", "server")
            let third = try RunningLog(archive, stranger)
            try await RedisFixture.eventually("the snapshot of another history") { third.snapshots.count == 1 }
            #expect(third.gaps == 1)
            try await third.stop().get()
          }
        }
      }
    }
  }

  /// The server fails over when nothing has come behind the snapshot: what comes then, under another history, belongs to it.
  @Test(arguments: [false, true]) func failoverBeforeTheFirstChange(restarted: Bool) async throws {
    var options = RedisFixture.options(["repl-ping-replica-period": "3600"])
    options.listensOnLoopback = true
    try await RedisFixture.withServer(options) { old in
      try await RedisFixture.withServer(options) { new in
        try await RedisFixture.withRepository { repository, _ in
          let archive = try RedisFixture.archive(repository)
          let port = try #require(old.nodes[0].port)
          try await new.command("REPLICAOF", "127.0.0.1", "\(port)")
          try await RedisFixture.eventually("the replica to be in sync") {
            try await RedisFixture.info(new, "replication")["master_link_status"] == "up"
          }
          let place = old.settings.with(host: "127.0.0.1", port: port)
          let first = try RunningLog(archive, old, settings: place)
          try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
          if restarted { try await first.stop().get() }
          try await old.kill()
          try await new.command("REPLICAOF", "NO", "ONE")
          try await new.command("CONFIG", "SET", "port", "\(port)")
          let log = restarted ? try RunningLog(archive, new, settings: place) : first
          try await RedisFixture.eventually("it to go on") { log.resumptions == 1 }
          try await Self.write(new)
          try await log.waitUntilDurable(new)
          let digest = try await RedisFixture.digest(new)
          let backup = first.snapshots[0]
          let end = try #require(try await RedisFixture.info(new, "replication").integer("master_repl_offset"))
          #expect(try await archive.reach(of: backup) == end)
          try await log.stop().get()
          #expect(log.gaps == 0)
          #expect(try await RedisFixture.restoredDigest(backup, repository, to: .latest) == digest)
        }
      }
    }
  }
}
