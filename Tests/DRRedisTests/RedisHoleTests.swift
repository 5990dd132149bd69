import DRCore
import DRRedis
import DRStorage
import Foundation
import Testing

/// Where a change log goes on, and what is missing of it.
@Suite(.serialized) struct RedisHoleTests {
  /// The segments right behind a snapshot are gone: that is no snapshot without a change log.
  @Test func theFirstSegmentIsMissing() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let archive = try RedisFixture.archive(repository)
        let log = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        let script = "for i = 1, 100 do redis.call('SET', ARGV[1] .. i, string.rep(i .. ' ', 500)) end"
        for round in 0..<3 {
          try await server.command("EVAL", script, "0", "\(round):")
          try await log.waitUntilDurable(server)
        }
        try await log.stop().get()
        let snapshot = log.snapshots[0]
        let segments = try await archive.lines()[0].segments.filter { !$0.isPartial }
        try #require(segments.count >= 2)
        let objects = try await repository.tier.listAll(prefix: "redis/aof/")
        let key = try #require(objects.first { $0.key.rawValue.contains(segments[0].name) }?.key)
        try FileManager.default.removeItem(atPath: "\(folder)/repository/\(key)")

        for target in [RecoveryTarget.latest, .position("\(segments[1].end)"), .time(Date())] {
          let error = await #expect(throws: DRError.self) {
            _ = try await RedisFixture.restoredDigest(snapshot, repository, to: target)
          }
          let hole = "offset \(segments[0].start) to \(segments[0].end) of history \(segments[0].history)"
          #expect(
            error?.code == .targetUnreachable && error?.message.contains(hole) == true, "\(String(describing: error))")
          #expect(error?.advice?.contains("--immediate") == true)
        }
        _ = try await RedisFixture.restoredDigest(snapshot, repository, to: .immediate)
        let findings = try await RedisLogCheck(archive: archive, backups: [snapshot]).verify(
          logger: RedisFixture.logger)
        let failed = findings.filter { $0.severity == .failure }
        #expect(failed.map(\.check) == ["change-log-reach"] && failed.first?.subject == snapshot.id, "\(findings)")
      }
    }
  }

  /// The server does not choose the database anew for who goes on: the notes say the one that it had chosen.
  @Test func theDatabaseAfterARestart() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let archive = try RedisFixture.archive(repository)
        let first = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
        try await server.command("SET", "a", "1", database: 3)
        let offset = try #require(try await RedisFixture.info(server, "replication").integer("master_repl_offset"))
        try await RedisFixture.eventually("it to be durable") {
          first.last.flatMap { Int64($0.position) } ?? 0 >= offset
        }
        try await first.stop().get()
        let second = try RunningLog(archive, server)
        try await RedisFixture.eventually("it to go on") { second.resumptions == 1 }
        try await server.command("SET", "b", "2", database: 3)
        try await RedisFixture.eventually("something durable") { second.last != nil }
        try await second.stop().get()
        let line = try await archive.lines()[0]
        let segment = try #require(line.segments.first { $0.start >= offset })
        #expect(try await archive.read(segment, line: line.id).first?.database == 3)
      }
    }
  }

  /// Another server's backup lies in the same component: that is not where this one goes on.
  @Test func anotherServersBackupIsNoGap() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let archive = try RedisFixture.archive(repository)
        let first = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
        try await server.command("SET", "a", "1")
        try await first.waitUntilDurable(server)
        try await first.stop().get()
        try await RedisFixture.withServer { other in
          try await other.command("SET", "another", "server")
          _ = try await repository.backUp(
            RedisSnapshot(component: try RedisFixture.component(), server: other.settings), cadence: .hourly,
            logger: RedisFixture.logger)
        }
        try await server.command("SET", "b", "2")
        let second = try RunningLog(archive, server)
        try await second.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        let followed = try await RedisLogLagCheck(archive: archive, server: server.settings)
          .verify(logger: RedisFixture.logger)
        try await second.stop().get()
        // Nobody follows it; and another server's log it is not.
        try await server.command("SET", "c", String(repeating: "3", count: 1000))
        let alone = try await RedisLogLagCheck(archive: archive, server: server.settings)
          .verify(logger: RedisFixture.logger)
        let foreign = try await RedisFixture.withServer { other in
          try await RedisLogLagCheck(archive: archive, server: other.settings).verify(logger: RedisFixture.logger)
        }
        #expect([followed, alone, foreign].map { $0.map(\.severity) } == [[.passed], [.warning], [.failure]])
        let bytes = alone.first?.evidence.split(separator: " ").first.flatMap { Int($0) } ?? 0
        #expect(bytes >= 1000, "\(alone)")
        #expect(second.gaps == 0 && second.resumptions == 1 && second.snapshots.isEmpty)
        #expect(try await RedisFixture.restoredDigest(first.snapshots[0], repository, to: .latest) == digest)
      }
    }
  }

  private static let (own, former, stranger) = (
    String(repeating: "a1", count: 20), String(repeating: "b2", count: 20), String(repeating: "c3", count: 20)
  )

  private static func line(_ id: String, _ start: Int64, _ end: Int64) -> ChangeLine {
    var segment = ChangeSegment(start: start, end: end, history: id)
    segment.modified = Date(timeIntervalSince1970: Double(end))
    return ChangeLine(id: id, [segment])
  }

  /// Which of the ends of a log a server is asked to go on from.
  @Test func startingPoints() {
    let lines = [Self.line(Self.former, 0, 100), Self.line(Self.stranger, 0, 900)]
    func choice(_ info: String?) -> ReplicationPosition? {
      ChangeStartingPoint(lines: lines, backups: []).choose(info.map { RedisInfo($0) }).start
    }
    let failedOver =
      "master_replid:\(Self.own)\nmaster_replid2:\(Self.former)\nsecond_repl_offset:151\nmaster_repl_offset:200"
    let backlog = "\nrepl_backlog_active:1\nrepl_backlog_first_byte_offset:50"
    #expect(choice(failedOver + backlog) == ReplicationPosition(history: Self.former, offset: 100))
    // Past the backlog, it is still this server's log that has the gap.
    #expect(choice(failedOver) == ReplicationPosition(history: Self.former, offset: 100))
    // Nothing is of this server, or it does not say: the newest.
    let newest = ReplicationPosition(history: Self.stranger, offset: 900)
    #expect(choice("master_replid:\(Self.own)\nmaster_repl_offset:2000") == newest)
    #expect(choice(nil) == newest)
  }

  /// A segment of another history goes on only where the one before it ends.
  @Test func chainsOfTwoHistories() {
    func segment(_ start: Int64, _ end: Int64, _ history: String) -> ChangeSegment {
      ChangeSegment(start: start, end: end, history: history)
    }
    func chain(_ segments: [ChangeSegment], _ history: String, _ offset: Int64) -> [Int64]? {
      ChangeLine(id: Self.own, segments).chain(from: ReplicationPosition(history: history, offset: offset))?.map(\.end)
    }
    let over = [segment(0, 50, Self.own), segment(50, 70, Self.former), segment(70, 90, Self.former)]
    #expect(chain(over, Self.own, 10) == [50, 70, 90] && chain(over, Self.former, 60) == [70, 90])
    // It parted at 30, before the end of the first.
    let parted = [segment(0, 50, Self.own), segment(30, 70, Self.former), segment(70, 90, Self.former)]
    #expect(chain(parted, Self.own, 10) == [50] && chain(parted, Self.former, 40) == [70, 90])
    let line = ChangeLine(id: Self.own, [segment(0, 30, Self.own), segment(30, 70, Self.former)])
    #expect(line.wentAnotherWay(before: ReplicationPosition(history: Self.own, offset: 40)))
    #expect(!line.wentAnotherWay(before: ReplicationPosition(history: Self.own, offset: 20)))
    #expect(!line.wentAnotherWay(before: ReplicationPosition(history: Self.stranger, offset: 40)))
    #expect(!line.wentAnotherWay(before: ReplicationPosition(history: Self.own, offset: 80)))
  }

  @Test func holes() throws {
    let line = ChangeLine(
      id: Self.own,
      [
        ChangeSegment(start: 10, end: 20, history: Self.own), ChangeSegment(start: 20, end: 30, history: Self.former),
        ChangeSegment(start: 40, end: 50, history: Self.former),
      ])
    let hole = try #require(line.hole(after: 30))
    #expect(hole.start == 30 && hole.end == 40 && hole.behind?.end == 50)
    #expect(line.hole(after: 50) == nil)
    func behind(_ history: String, _ offset: Int64) -> Int64? {
      line.hole(behind: ReplicationPosition(history: history, offset: offset))?.end
    }
    #expect(behind(Self.own, 5) == 10 && behind(Self.former, 35) == 40)
    // Covered under another history, or of none of these, or behind everything.
    #expect(behind(Self.own, 25) == nil && behind(Self.stranger, 5) == nil && behind(Self.own, 60) == nil)
  }
}
