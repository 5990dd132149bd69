import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Segments that overlap: what receivers leave that followed one server at the same time, before a lease kept them apart.
@Suite(.serialized) struct RedisOverlapTests {
  /// What three receivers stored, each with a repository of its own, in one.
  struct Left {
    var repository: Repository
    var archive: RedisLogArchive
    var snapshot: BackupManifest
    var segments: [ChangeSegment]
    /// What the server held at the end of the last.
    var digest: String
    var line: String { segments[0].history }

    /// Reads, changes and stores a segment anew.
    func rewrite(_ segment: ChangeSegment, _ change: (inout ByteBuffer) throws -> Void) async throws {
      let store = try ChangeLogStore(
        tier: repository.tier, component: archive.component, layout: archive.layout, log: "aof", systemIdentifier: line)
      var raw = try await store.getPartial(segment.name)
      try change(&raw)
      try await store.putPartial(segment.name, raw)
    }

    func check() async throws -> [Finding] {
      try await RedisLogCheck(archive: archive, backups: [snapshot]).verify(logger: RedisFixture.logger)
    }
  }

  private static func withOverlaps(_ body: (Left) async throws -> Void) async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        var repositories = [repository]
        for name in ["second", "third"] {
          repositories.append(Repository(tier: try await LocalTier(root: "\(folder)/\(name)", creating: true)))
        }
        let archives = try repositories.map { try RedisFixture.archive($0) }
        var count = 0
        // Transactions: a receiver may be stopped within any of them.
        func write() async throws {
          count += 1
          let script = "for i = 1, 40 do redis.call('SET', ARGV[1] .. i, string.rep(i .. ' ', 500)) end"
          try await server.command("EVAL", script, "0", "\(count):")
          try await server.command("INCR", "transactions")
        }
        func begin(_ index: Int) async throws -> RunningLog {
          let log = try RunningLog(archives[index], server, RunningLog.options { $0.segmentSize = 8 << 20 })
          try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
          try await write()
          return log
        }
        func end(_ log: RunningLog) async throws {
          try await log.waitUntilDurable(server)
          try await log.stop().get()
          try await write()
        }
        let first = try await begin(0)
        let second = try await begin(1)
        try await end(first)
        let third = try await begin(2)
        try await end(second)
        try await third.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await third.stop().get()
        for other in repositories[1...] {
          for object in try await other.tier.listAll(prefix: "redis/aof/") {
            _ = try await repository.tier.put(
              object.key, try await other.tier.get(object.key, range: nil), PutOptions())
          }
        }
        let lines = try await archives[0].lines()
        let segments = lines[0].segments
        try #require(lines.count == 1 && segments.count == 3, "\(lines)")
        try #require(segments[1].start < segments[0].end && segments[2].start < segments[1].end)
        try await body(
          Left(
            repository: repository, archive: archives[0], snapshot: first.snapshots[0], segments: segments,
            digest: digest))
      }
    }
  }

  @Test(
    "The latest, and a moment and an offset within what two segments hold, come back; the check says how far it goes")
  func restored() async throws {
    try await Self.withOverlaps { left in
      let end = left.segments[2].end
      #expect(try await RedisFixture.restoredDigest(left.snapshot, left.repository, to: .latest) == left.digest)
      let replay = try #require(try await RedisReplay.find(left.snapshot, to: .latest, in: left.archive))
      #expect(replay.end.offset == end)
      var bytes: Int64 = 0
      for try await piece in replay.stream { bytes += Int64(piece.readableBytes) }
      #expect(bytes == end - replay.start.offset)
      for offset in [left.segments[1].start, left.segments[0].end, left.segments[1].end] {
        let found = try await RedisReplay.find(left.snapshot, to: .position("\(offset)"), in: left.archive)
        #expect(found?.end.offset == offset)
      }
      _ = try await RedisFixture.restoredDigest(
        left.snapshot, left.repository, to: .position("\(left.segments[1].start)"))
      let findings = try await left.check()
      #expect(findings.allSatisfy { $0.severity == .passed }, "\(findings)")
      let isRight = findings.contains { $0.check == "change-log-reach" && $0.evidence.hasSuffix("through \(end)") }
      #expect(isRight, "\(findings)")
    }
  }

  /// The first cannot be read any more: what others hold of it is taken from those, and what none holds is said.
  @Test func aDamagedSegmentIsReplaced() async throws {
    try await Self.withOverlaps { left in
      // Whole: the same as the first, with other notes.
      let whole = ChangeSegment(
        start: left.segments[0].start, end: left.segments[0].end, history: left.segments[0].history)
      let store = try ChangeLogStore(
        tier: left.repository.tier, component: left.archive.component, layout: left.archive.layout, log: "aof",
        systemIdentifier: left.line)
      _ = try await store.put(whole.name, try await store.getPartial(whole.name))
      try await left.rewrite(left.segments[0]) { $0 = ByteBuffer(string: "#DR1 broken\r\n") }
      #expect(try await RedisFixture.restoredDigest(left.snapshot, left.repository, to: .latest) == left.digest)
      let spared = try await left.check().filter { $0.severity == .failure }
      #expect(spared.map(\.check) == ["change-log-segment"], "\(spared)")
      #expect(spared.first?.advice?.contains("other segments hold what it held") == true)

      try await store.delete(whole.name)
      try await Self.expectEnd(left, at: try #require(Int64(left.snapshot.recoveryPoint.position)), "is broken")
    }
  }

  @Test(
    "Two segments that hold different bytes at one offset: said by the check and by a restore, which touches nothing")
  func segmentsThatDisagree() async throws {
    try await Self.withOverlaps { left in
      try await left.rewrite(left.segments[1]) { raw in
        // In a value, right behind where the second begins.
        let mark = Array("7 7 7 7 7 ".utf8)
        let view = raw.readableBytesView
        let index = try #require(
          view.indices.first { view[$0] == mark[0] && view[$0...].starts(with: mark) })
        raw.setInteger(UInt8(ascii: "8"), at: index)
      }
      let start = left.segments[1].start
      let error = await #expect(throws: DRError.self) {
        _ = try await RedisReplay.find(left.snapshot, to: .latest, in: left.archive)
      }
      #expect(error?.code == .segmentConflict && error?.message.contains("hold different bytes") == true)
      let offset = try #require(error?.message.firstMatch(of: /whole to offset (\d+)/).flatMap { Int64($0.1) })
      #expect(start <= offset && offset < left.segments[0].end, "\(String(describing: error))")
      try await Self.expectEnd(left, at: offset, "hold different bytes")
    }
  }

  /// A log that ends in the middle of a transaction, of which nobody can have the rest.
  @Test func anUnfinishedTransactionAtTheEnd() async throws {
    try await Self.withOverlaps { left in
      let end = left.segments[2].end
      var commands = ByteBuffer()
      for words in [["SET", "whole", "1"], ["MULTI"], ["SET", "half", "1"]] { commands.writeRESPCommand(words) }
      let piece = ChangeSegment(start: end, end: end + Int64(commands.readableBytes), history: left.segments[2].history)
      var raw = ByteBuffer(string: "#DR1 history=\(piece.history) offset=\(end)\r\n")
      raw.writeString("#DR offset=\(end) at=\(Date().millisecondsUp) database=0 bytes=\(commands.readableBytes)\r\n")
      raw.writeImmutableBuffer(commands)
      let store = try ChangeLogStore(
        tier: left.repository.tier, component: left.archive.component, layout: left.archive.layout, log: "aof",
        systemIdentifier: left.line)
      try await store.putPartial(piece.name, raw)
      let replay = try #require(try await RedisReplay.find(left.snapshot, to: .latest, in: left.archive))
      var set = ByteBuffer()
      set.writeRESPCommand(["SET", "whole", "1"])
      #expect(replay.end.offset == end + Int64(set.readableBytes))
      _ = try await RedisFixture.restoredDigest(left.snapshot, left.repository, to: .latest) { server in
        let keys = try await server.command("EXISTS", "whole", "half").integer
        #expect(keys == 1)
      }
      let findings = try await left.check()
      let isRight = findings.contains {
        $0.check == "change-log-reach" && $0.evidence.hasSuffix("through \(replay.end.offset)")
      }
      #expect(isRight, "\(findings)")
    }
  }

  /// Check and restore agree that the log is whole to an offset and why it does not go on; nothing was touched.
  private static func expectEnd(_ left: Left, at offset: Int64, _ why: String) async throws {
    let findings = try await left.check().filter { $0.check == "change-log-reach" }
    #expect(findings.map(\.severity) == [.failure], "\(findings)")
    #expect(findings.first?.evidence.contains("through \(offset) only") == true, "\(findings)")
    #expect(findings.first?.evidence.contains(why) == true, "\(findings)")
    try await RedisFixture.withServer { target in
      try await target.command("SET", "mine", "1")
      var online = RedisOnlineRestorer(server: target.settings, archive: left.archive)
      online.existingData = .discard
      let error = await #expect(throws: DRError.self) {
        _ = try await online.restore(
          from: left.repository.reader(for: left.snapshot), to: .latest, logger: RedisFixture.logger)
      }
      #expect(error?.message.contains("nothing was touched") == true, "\(String(describing: error))")
      #expect(error?.message.contains("whole to offset \(offset),") == true, "\(String(describing: error))")
      let (mine, info) = try await (target.command("GET", "mine").text, RedisFixture.info(target))
      #expect(mine == "1" && info["role"] == "master")
      // What it advises.
      let target: RecoveryTarget =
        "\(offset)" == left.snapshot.recoveryPoint.position ? .immediate : .position("\(offset)")
      _ = try await RedisFixture.restoredDigest(left.snapshot, left.repository, to: target)
    }
  }
}
