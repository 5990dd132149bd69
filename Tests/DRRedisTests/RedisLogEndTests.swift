import DRCore
import DRRedis
import DRStorage
import Foundation
import Testing

/// The end of a change log that is lost: not to be taken for a log that ended there.
@Suite(.serialized) struct RedisLogEndTests {
  private static let script = "for i = 1, 100 do redis.call('SET', ARGV[1] .. i, string.rep(i .. ' ', 500)) end"

  private static func failures(_ archive: RedisLogArchive, _ backups: [BackupManifest]) async throws -> [Finding] {
    try await RedisLogCheck(archive: archive, backups: backups).verify(logger: RedisFixture.logger)
      .filter { $0.severity == .failure }
  }

  private static func files(_ folder: String) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: folder).filter { $0.hasSuffix(".zst") && $0.contains("aof/") }
      .sorted().map { "\(folder)/\($0)" }
  }

  /// A log of several segments of which the last are deleted, one after the other, to none.
  @Test func theLastSegmentsAreMissing() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let archive = try RedisFixture.archive(repository)
        let log = try RunningLog(archive, server, RunningLog.options { $0.headInterval = .milliseconds(1) })
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        for round in 0..<3 {
          try await server.command("EVAL", Self.script, "0", "\(round):")
          try await log.waitUntilDurable(server)
        }
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        let snapshot = log.snapshots[0]
        #expect(try await Self.failures(archive, [snapshot]).isEmpty)
        #expect(try await RedisFixture.restoredDigest(snapshot, repository, to: .latest) == digest)
        let line = try await archive.lines()[0]
        let end = try #require(line.end)
        #expect(line.head == end)

        // On a copy too, where it says no more than the copy has; and retention keeps both.
        let copy = Repository(tier: try await LocalTier(root: folder + "/copy", creating: true))
        _ = try await Replicator(from: repository, to: copy).run(logger: RedisFixture.logger)
        let copied = try RedisFixture.archive(copy)
        #expect(try await copied.lines().map(\.head) == [end])
        _ = try await copy.prune(RetentionPolicy([.newest(1)]), logger: RedisFixture.logger)
        #expect(try await Self.failures(copied, [snapshot]).isEmpty)

        let segments = try Self.files(folder + "/repository").filter { !$0.contains("/head-") }
        try #require(segments.count >= 3)
        for file in segments.reversed() {
          try FileManager.default.removeItem(atPath: file)
          let left = try await archive.lines()[0].end?.offset
          let start = try #require(Int64(snapshot.recoveryPoint.position))
          let hole = "offset \(left ?? start) to \(end.offset) of history \(end.history)"
          let error = await #expect(throws: DRError.self) {
            _ = try await RedisFixture.restoredDigest(snapshot, repository, to: .latest)
          }
          #expect(
            error?.code == .targetUnreachable && error?.message.contains(hole) == true, "\(String(describing: error))")
          let found = try await Self.failures(archive, [snapshot])
          let isNamed = found.contains {
            $0.evidence.contains("\(left ?? start)") && $0.evidence.contains("\(end.offset)")
          }
          #expect(found.count == 1 && isNamed, "\(found)")
          // What is there can be had.
          let target = left.map { RecoveryTarget.position("\($0)") } ?? .immediate
          _ = try await RedisFixture.restoredDigest(snapshot, repository, to: target)
        }
        // From the copy, all of it comes.
        #expect(try await RedisFixture.restoredDigest(snapshot, copy, to: .latest) == digest)
      }
    }
  }

  /// The segment with which a receiver ended stays partial, in the midst of the log. Lost in the repository, it is still on the copy.
  @Test func aCopyKeepsWhatTheRepositoryLost() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let archive = try RedisFixture.archive(repository)
        var snapshots: [BackupManifest] = []
        for round in 0..<3 {
          let log = try RunningLog(archive, server)
          try await RedisFixture.eventually("it to begin") { !log.snapshots.isEmpty || log.resumptions > 0 }
          try await server.command("EVAL", Self.script, "0", "\(round):")
          try await log.waitUntilDurable(server)
          try await log.stop().get()
          snapshots += log.snapshots
        }
        try #require(snapshots.count == 1)
        let digest = try await RedisFixture.digest(server)
        let copy = Repository(tier: try await LocalTier(root: folder + "/copy", creating: true))
        let copied = try RedisFixture.archive(copy)
        _ = try await Replicator(from: repository, to: copy).run(logger: RedisFixture.logger)
        let partial = try Self.files(folder + "/repository").filter {
          $0.contains(".partial") && !$0.contains("/head-")
        }
        try #require(partial.count >= 2)
        try FileManager.default.removeItem(atPath: partial[0])
        #expect(try await Self.failures(archive, snapshots).count == 1)
        for _ in 0..<2 { _ = try await Replicator(from: repository, to: copy).run(logger: RedisFixture.logger) }
        #expect(try await Self.failures(copied, snapshots).isEmpty)
        #expect(try await RedisFixture.restoredDigest(snapshots[0], copy, to: .latest) == digest)
        _ = try await Replicator(from: copy, to: repository).run(logger: RedisFixture.logger)
        #expect(try await Self.failures(archive, snapshots).isEmpty)
        #expect(try await RedisFixture.restoredDigest(snapshots[0], repository, to: .latest) == digest)
      }
    }
  }

  /// Copies made while a receiver stores its last segment anew several times a second: none says more than it has.
  @Test func copiesOfALogThatIsWritten() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let archive = try RedisFixture.archive(repository)
        let log = try RunningLog(
          archive, server,
          RunningLog.options {
            $0.headInterval = .milliseconds(1)
            $0.partialInterval = .milliseconds(5)
          })
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        let copy = Repository(tier: try await LocalTier(root: folder + "/copy", creating: true))
        let copied = try RedisFixture.archive(copy)
        let writing = Task {
          var round = 0
          while !Task.isCancelled {
            try await server.command("EVAL", Self.script, "0", "\(round % 7):")
            round += 1
            try await Task.sleep(for: .milliseconds(20))
          }
        }
        try await log.waitUntilDurable(server)
        var ends: [Int64] = []
        let deadline = ContinuousClock.now + .seconds(5)
        while ContinuousClock.now < deadline || ends.count < 12 {
          _ = try await Replicator(from: repository, to: copy).run(logger: RedisFixture.logger)
          let found = try await Self.failures(copied, log.snapshots)
          #expect(found.isEmpty, "\(found)")
          ends.append(try await copied.lines().first?.end?.offset ?? 0)
          // While it is written, the original says no more than it has either.
          let own = try await Self.failures(archive, log.snapshots)
          #expect(own.isEmpty, "\(own)")
        }
        writing.cancel()
        _ = await writing.result
        try await log.stop().get()
        #expect(ends == ends.sorted() && ends.last ?? 0 > ends.first ?? 0, "\(ends)")
        _ = try await Replicator(from: repository, to: copy).run(logger: RedisFixture.logger)
        #expect(try await copied.lines().map(\.head) == archive.lines().map(\.head))
        #expect(try await copied.lines().first?.head != nil)
      }
    }
  }

  /// With the log its notes are gone too: the manifests know of it.
  @Test func theWholeLogIsGone() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let archive = try RedisFixture.archive(repository)
        let log = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await server.command("SET", "a", "1")
        try await log.waitUntilDurable(server)
        try await log.stop().get()
        let snapshot = log.snapshots[0]
        #expect(try await Self.failures(archive, [snapshot]).isEmpty)
        for file in try Self.files(folder + "/repository") { try FileManager.default.removeItem(atPath: file) }
        let found = try await Self.failures(archive, [snapshot])
        #expect(found.map(\.check) == ["change-log-reach"] && found[0].evidence.contains("nothing of that change log"))
        let error = await #expect(throws: DRError.self) {
          _ = try await RedisFixture.restoredDigest(snapshot, repository, to: .latest)
        }
        #expect(error?.code == .targetUnreachable && error?.advice?.contains("--immediate") == true)
        _ = try await RedisFixture.restoredDigest(snapshot, repository, to: .immediate)
      }
    }
  }

  /// The end is gone, and the note of it: a backup that was taken since knows how far the log went.
  @Test func theEndAndItsNoteAreMissing() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let archive = try RedisFixture.archive(repository)
        let log = try RunningLog(archive, server, RunningLog.options { $0.headInterval = .milliseconds(1) })
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        for round in 0..<2 {
          try await server.command("EVAL", Self.script, "0", "\(round):")
          try await log.waitUntilDurable(server)
        }
        var source = RedisSnapshot(component: archive.component, server: server.settings)
        source.archive = archive
        let later = try await repository.backUp(source, cadence: .daily, logger: RedisFixture.logger)
        try await log.stop().get()
        let backups = log.snapshots + [later]
        #expect(try await Self.failures(archive, backups).isEmpty)
        let end = try #require(try await archive.lines()[0].end?.offset)
        let files = try Self.files(folder + "/repository")
        for file in files where file.contains("/head-") { try FileManager.default.removeItem(atPath: file) }
        // Of the segments, those that end the log.
        let segments = files.filter { !$0.contains("/head-") }
        for file in segments.suffix(segments.count - 1) { try FileManager.default.removeItem(atPath: file) }
        let left = try #require(try await archive.lines()[0].end?.offset)
        try #require(left < end)
        let found = try await Self.failures(archive, backups)
        let isNamed = found.contains {
          $0.check == "change-log-gap" && $0.evidence.contains("between offset \(left) and")
        }
        #expect(isNamed, "\(found)")
        let error = await #expect(throws: DRError.self) {
          _ = try await RedisFixture.restoredDigest(log.snapshots[0], repository, to: .latest)
        }
        #expect(error?.code == .targetUnreachable && error?.message.contains("segments are missing") == true)
      }
    }
  }

  /// A byte of the age header of a segment, or of an artifact, is wrong: damage, and not a wrong key.
  @Test func aDamagedAgeHeader() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, folder in
        let identity = AgeIdentity.generate()
        var archive = try RedisFixture.archive(repository)
        archive.encoding = Encoding(recipients: [try #require(identity.recipient)])
        archive.decoding = Decoding(identities: [identity])
        let log = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        for round in 0..<3 {
          try await server.command("EVAL", Self.script, "0", "\(round):")
          try await log.waitUntilDurable(server)
        }
        try await log.stop().get()
        let snapshot = log.snapshots[0]
        /// In the body of the stanza for the recipient, which nobody can open then.
        func damage(_ path: String) throws {
          var bytes = try Data(contentsOf: URL(filePath: path))
          let line = try #require(bytes.range(of: Data("-> X25519 ".utf8)))
          let body = try #require(bytes[line.upperBound...].firstIndex(of: 10))
          bytes[body + 5] = bytes[body + 5] == UInt8(ascii: "A") ? UInt8(ascii: "B") : UInt8(ascii: "A")
          chmod(path, 0o600)
          try bytes.write(to: URL(filePath: path))
        }
        let segments = try await archive.lines()[0].segments
        try #require(segments.count >= 3)
        let all = try FileManager.default.subpathsOfDirectory(atPath: folder + "/repository")
        let file = try #require(all.first { $0.contains(segments[1].name) })
        try damage("\(folder)/repository/\(file)")
        let found = try await Self.failures(archive, [snapshot])
        #expect(found.count == 2 && found.allSatisfy { $0.evidence.contains("age header is damaged") }, "\(found)")
        let error = await #expect(throws: DRError.self) {
          _ = try await RedisReplay.find(snapshot, to: .latest, in: archive)
        }
        #expect(error?.code == .corruptData && error?.message.contains("age header is damaged") == true)
        #expect(error?.message.contains("whole to offset \(segments[1].start),") == true)

        let artifact = try snapshot.artifact("dump.rdb")
        try damage("\(folder)/repository/\(artifact.key)")
        func read(_ identity: AgeIdentity) async -> DRError? {
          await #expect(throws: DRError.self) {
            for try await _ in try await repository.reader(
              for: snapshot, decoding: Decoding(identities: [identity])
            ).read(artifact) {}
          }
        }
        let damaged = await read(identity)
        #expect(
          damaged?.code == .corruptData && damaged?.message.contains("no wrong key") == true,
          "\(String(describing: damaged))")
        let other = try snapshot.artifact("acl.txt")
        let stranger = await #expect(throws: DRError.self) {
          for try await _ in try await repository.reader(
            for: snapshot, decoding: Decoding(identities: [AgeIdentity.generate()])
          ).read(other) {}
        }
        #expect(stranger?.code == .noMatchingIdentity && stranger?.message.contains("as they were written") == true)
      }
    }
  }
}
