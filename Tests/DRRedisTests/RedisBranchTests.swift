import DRCore
import DRRedis
import DRStorage
import Foundation
import Testing

/// Servers that go on from a point at which another one went on too: never one log of two histories.
@Suite(.serialized) struct RedisBranchTests {
  private static func offset(_ server: RedisSandbox) async throws -> Int64 {
    try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
  }

  private static func follow(_ server: RedisSandbox, _ port: Int) async throws {
    try await server.command("REPLICAOF", "127.0.0.1", "\(port)")
    try await RedisFixture.eventually("the replica to be in sync") {
      try await RedisFixture.info(server, "replication")["master_link_status"] == "up"
    }
  }

  /// Servers of which the first has a port that the others take over, in a repository.
  private static func with(
    _ count: Int,
    _ body: ([RedisSandbox], RedisConnectionSettings, Int, Repository, RedisLogArchive) async throws -> Void
  ) async throws {
    var options = RedisFixture.options(["repl-ping-replica-period": "3600"])
    options.listensOnLoopback = true
    func start(_ servers: [RedisSandbox]) async throws {
      guard servers.count < count else {
        return try await RedisFixture.withRepository { repository, _ in
          let port = try #require(servers[0].nodes[0].port)
          try await body(
            servers, servers[0].settings.with(host: "127.0.0.1", port: port), port, repository,
            try RedisFixture.archive(repository))
        }
      }
      try await RedisFixture.withServer(options) { try await start(servers + [$0]) }
    }
    try await start([])
  }

  /// The log goes beyond the point at which a replica parted; the replica takes over, and the receiver is started again. It could go
  /// on from the snapshot, but the log does already, to elsewhere.
  @Test func aReplicaThatWasBehindTakesOver() async throws {
    try await Self.with(2) { servers, place, port, repository, archive in
      let (old, new) = (servers[0], servers[1])
      try await Self.follow(new, port)
      let first = try RunningLog(archive, old, settings: place)
      try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
      // It parts where the snapshot is.
      try await new.command("REPLICAOF", "NO", "ONE")
      for number in 0..<100 { try await old.command("SET", "key:\(number)", "old") }
      try await first.waitUntilDurable(old)
      let former = try await RedisFixture.digest(old)
      try await first.stop().get()
      let parted = try await Self.offset(old)
      try await old.kill()

      try await new.command("CONFIG", "SET", "port", "\(port)")
      for number in 0..<300 { try await new.command("SET", "key:\(number)", "new") }
      let second = try RunningLog(archive, new, settings: place)
      try await RedisFixture.eventually("a snapshot of its own") { !second.snapshots.isEmpty }
      #expect(second.resumptions == 0 && second.gaps == 1)
      try await new.command("SET", "more", "new")
      try await second.waitUntilDurable(new)
      let digest = try await RedisFixture.digest(new)
      try await second.stop().get()

      let snapshots = first.snapshots + second.snapshots
      #expect(try await RedisFixture.restoredDigest(snapshots[0], repository, to: .latest) == former)
      #expect(try await RedisFixture.restoredDigest(snapshots[1], repository, to: .latest) == digest)
      let findings = try await RedisLogCheck(archive: archive, backups: snapshots).verify(logger: RedisFixture.logger)
      #expect(findings.allSatisfy { $0.severity != .failure }, "\(findings)")
      // The gap that was named, of which no segment tells.
      let gaps = findings.filter { $0.check == "change-log-gap" }
      #expect(gaps.count == 1 && gaps.first?.evidence.contains("offset \(parted) of history") == true, "\(findings)")

      // An offset that both histories have.
      let catalog = try await repository.catalog(of: RedisFixture.component())
      let known = try snapshots.map { try #require($0.recoveryPoint.history) }
      let end = try #require(Int64(snapshots[1].recoveryPoint.position))
      try #require(end > parted)
      #expect(try await archive.backup(at: "\(parted)", in: catalog).id == snapshots[0].id)
      #expect(try await archive.backup(at: "\(end)", in: catalog).id == snapshots[1].id)
      #expect(try await archive.backup(at: "\(known[0]):\(parted)", in: catalog).id == snapshots[0].id)
      let reaches = try await archive.reaches(of: catalog.backups)
      #expect(reaches[snapshots[0].id]?.offset == parted && reaches[snapshots[0].id]?.moment != nil)
    }
  }

  /// Two servers that have nothing to do with each other, one after the other, in one repository: an offset is of both.
  @Test func anOffsetOfTwoHistories() async throws {
    try await Self.with(2) { servers, _, _, repository, archive in
      var (logs, ends): ([RunningLog], [Int64]) = ([], [])
      for server in servers {
        let log = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await server.command("SET", "a", String(repeating: "x", count: 5000))
        try await log.waitUntilDurable(server)
        ends.append(try await Self.offset(server))
        try await log.stop().get()
        logs.append(log)
      }
      let catalog = try await repository.catalog(of: RedisFixture.component())
      let histories = try logs.map { try #require($0.last?.history) }
      let offset = ends.min() ?? 0
      let error = await #expect(throws: DRError.self) { try await archive.backup(at: "\(offset)", in: catalog) }
      #expect(error?.code == .targetAmbiguous && histories.allSatisfy { error?.message.contains($0) == true })
      #expect(error?.advice?.contains("<history>:\(offset)") == true)
      for (log, history) in zip(logs, histories) {
        #expect(try await archive.backup(at: "\(history):\(offset)", in: catalog).id == log.snapshots[0].id)
      }
      // A backup of one history is not brought to the other's offset.
      let wrong = await #expect(throws: DRError.self) {
        _ = try await RedisFixture.restoredDigest(
          logs[0].snapshots[0], repository, to: .position("\(histories[1]):\(offset)"))
      }
      #expect(wrong?.code == .targetUnreachable && wrong?.message.contains(histories[0]) == true)
    }
  }

  /// A snapshot ahead of the log, then a failover to a server that has all of it, or that parted before it.
  @Test(arguments: [true, false]) func aSnapshotAheadOfTheLog(parted: Bool) async throws {
    try await Self.with(2) { servers, place, port, repository, archive in
      let (old, new) = (servers[0], servers[1])
      try await Self.follow(new, port)
      let first = try RunningLog(archive, old, settings: place)
      try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
      try await old.command("SET", "a", "1")
      try await first.waitUntilDurable(old)
      try await first.stop().get()
      try await old.command("SET", "b", "2")
      let behind = try await Self.offset(old)
      try await RedisFixture.eventually("the replica to have it") { try await Self.offset(new) >= behind }
      if parted { try await new.command("REPLICAOF", "NO", "ONE") }
      try await old.command("SET", "c", "3")
      let ahead = try await repository.backUp(
        RedisSnapshot(component: try RedisFixture.component(), server: old.settings), cadence: .hourly,
        logger: RedisFixture.logger)
      let position = try #require(Int64(ahead.recoveryPoint.position))
      if !parted {
        try await RedisFixture.eventually("the replica to have it") { try await Self.offset(new) >= position }
      }
      try await old.kill()
      if !parted { try await new.command("REPLICAOF", "NO", "ONE") }
      try await new.command("CONFIG", "SET", "port", "\(port)")
      try await new.command("SET", "d", String(repeating: "4", count: 1000))
      let second = try RunningLog(archive, new, settings: place)
      try await RedisFixture.eventually("it to go on") { second.resumptions == 1 }
      try await second.waitUntilDurable(new)
      let digest = try await RedisFixture.digest(new)
      try await second.stop().get()

      #expect(try await RedisFixture.restoredDigest(first.snapshots[0], repository, to: .latest) == digest)
      let findings = try await RedisLogCheck(archive: archive, backups: first.snapshots + [ahead])
        .verify(logger: RedisFixture.logger)
      #expect(findings.allSatisfy { $0.severity != .failure }, "\(findings)")
      guard parted else {
        #expect(try await RedisFixture.restoredDigest(ahead, repository, to: .latest) == digest)
        #expect(findings.allSatisfy { $0.severity == .passed }, "\(findings)")
        return
      }
      // What the new server did does not follow from it: said, not left out in silence.
      let error = await #expect(throws: DRError.self) {
        _ = try await RedisFixture.restoredDigest(ahead, repository, to: .latest)
      }
      #expect(error?.message.contains("went another way") == true, "\(String(describing: error))")
      #expect(findings.contains { $0.severity == .warning && $0.evidence.contains("another way") }, "\(findings)")
      _ = try await RedisFixture.restoredDigest(ahead, repository, to: .immediate)
    }
  }

  /// Two failovers without a byte between them, while the receiver looks for the server.
  @Test func failoversWithoutAByteBetween() async throws {
    try await Self.with(3) { servers, place, port, repository, archive in
      let (old, next, last) = (servers[0], servers[1], servers[2])
      try await Self.follow(next, port)
      let log = try RunningLog(archive, old, settings: place)
      try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
      try await old.kill()
      try await next.command("REPLICAOF", "NO", "ONE")
      try await next.command("CONFIG", "SET", "port", "\(port)")
      try await RedisFixture.eventually("it to go on") { log.resumptions == 1 }
      try await Self.follow(last, port)
      try await next.kill()
      try await last.command("REPLICAOF", "NO", "ONE")
      try await last.command("CONFIG", "SET", "port", "\(port)")
      try await RedisFixture.eventually("it to go on") { log.resumptions == 2 }
      for number in 0..<100 { try await last.command("SET", "key:\(number)", "last") }
      try await log.waitUntilDurable(last)
      let (digest, end) = try await (RedisFixture.digest(last), Self.offset(last))
      try await log.stop().get()
      #expect(log.gaps == 0)
      #expect(try await archive.reach(of: log.snapshots[0]) == end)
      #expect(try await RedisFixture.restoredDigest(log.snapshots[0], repository, to: .latest) == digest)
    }
  }
}
