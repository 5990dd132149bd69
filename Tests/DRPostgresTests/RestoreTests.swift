import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import NIOCore
import Testing

/// Restores, judged by `pg_verifybackup` and by a server that starts on them.
@Suite struct RestoreTests {
  static let everything = """
    CREATE TABLE t AS SELECT n, md5(n::text) AS m FROM generate_series(1, 5000) n;
    CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 100) AS n;
    CREATE TABLE toasted AS SELECT string_agg(md5(n::text), '') AS big FROM generate_series(1, 9000) n;
    CREATE INDEX ON t (m);
    SELECT lo_from_bytea(4711, decode(repeat('00ff', 50000), 'hex'));
    """

  @Test("What is restored is whole: tables, large objects, TOAST; unlogged tables are empty")
  func whole() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query(Self.everything)
      try await BackupFixture.withRepository { repository, folder in
        let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository)
        let before = try await BackupFixture.digest(server, tables: ["t", "toasted"])
        let target = folder + "/restored"
        let outcome = try await BackupFixture.restore(manifest, from: repository, to: target)
        #expect(outcome.items > 900)
        try await BackupFixture.verify(target, server)
        let restored = try await PostgresSandbox.start(
          dataFolder: target, until: .promoted, logger: BackupFixture.logger)
        try await PostgresSandbox.with(restored) { restored in
          #expect(try await BackupFixture.digest(restored, tables: ["t", "toasted"]) == before)
          #expect(try await restored.query("SELECT count(*) FROM u").single == "0")
          let object = try await server.query("SELECT md5(lo_get(4711))").single
          #expect(try await restored.query("SELECT md5(lo_get(4711))").single == object)
        }
      }
    }
  }

  @Test("Encrypted to a recipient whose key only the restore has; gzip too", arguments: [Compression.zstd(), .gzip()])
  func encrypted(compression: Compression) async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await BackupFixture.withRepository { repository, folder in
        let identity = AgeIdentity.generate()
        let encoding = Encoding(compression: compression, recipients: [try #require(identity.recipient)])
        let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository, encoding: encoding)
        let refused = await #expect(throws: DRError.self) {
          _ = try await BackupFixture.restore(manifest, from: repository, to: folder + "/without")
        }
        #expect(refused?.code == .noMatchingIdentity)
        #expect(!FileManager.default.fileExists(atPath: folder + "/without"))
        _ = try await BackupFixture.restore(
          manifest, from: repository, to: folder + "/with", decoding: Decoding(identities: [identity]))
        try await BackupFixture.verify(folder + "/with", server)
      }
    }
  }

  @Test("Tablespaces go where they are mapped to")
  func tablespaces() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await BackupFixture.withRepository { repository, folder in
        for name in ["one", "two"] {
          let space = "\(folder)/space-\(name)"
          mkdir(space, 0o700)
          if let user = server.user { chown(space, user.userID, user.groupID) }
          try await server.query("CREATE TABLESPACE \(name) LOCATION '\(space)'")
          try await server.query(
            "CREATE TABLE in_\(name) TABLESPACE \(name) AS SELECT n, md5(n::text) FROM generate_series(1, 3000) n")
        }
        let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository)
        #expect(manifest.artifacts.count == 4)
        let before = try await BackupFixture.digest(server, tables: ["in_one", "in_two"])
        let target = folder + "/restored"

        // Where they were is in use.
        let refused = await #expect(throws: DRError.self) {
          _ = try await BackupFixture.restore(manifest, from: repository, to: target)
        }
        #expect(refused?.code == .destinationInUse)
        #expect(!FileManager.default.fileExists(atPath: target))

        let unknown = await #expect(throws: DRError.self) {
          _ = try await BackupFixture.restore(
            manifest, from: repository, to: target, tablespaces: ["/nowhere": folder + "/x"])
        }
        #expect(unknown?.code == .invalidConfiguration)

        for place in ["\(folder)/repository", "\(folder)/repository/spaces/one"] {
          let inside = await #expect(throws: DRError.self) {
            _ = try await BackupFixture.restore(
              manifest, from: repository, to: target, tablespaces: ["\(folder)/space-one": place])
          }
          #expect(inside?.code == .destinationInUse && inside?.message.contains("in the repository") == true)
        }
        #expect(!FileManager.default.fileExists(atPath: "\(folder)/repository/spaces"))
        #expect(!FileManager.default.fileExists(atPath: target))

        let mapping = ["one", "two"].map { ("\(folder)/space-\($0)", "\(folder)/moved-\($0)") }
        _ = try await BackupFixture.restore(
          manifest, from: repository, to: target, tablespaces: Dictionary(uniqueKeysWithValues: mapping))
        try await BackupFixture.verify(target, server)
        let restored = try await PostgresSandbox.start(
          dataFolder: target, until: .promoted, logger: BackupFixture.logger)
        try await PostgresSandbox.with(restored) { restored in
          #expect(try await BackupFixture.digest(restored, tables: ["in_one", "in_two"]) == before)
          let places = try await restored.query(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname IN ('one', 'two') ORDER BY 1")
          #expect(places.map { $0[0] } == ["\(folder)/moved-one", "\(folder)/moved-two"])
        }
      }
    }
  }

  @Test("A folder in use is refused and untouched; one that may be replaced is kept beside")
  func destinationInUse() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await server.query(Self.everything)
      try await BackupFixture.withRepository { repository, folder in
        let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository)
        for replacing in [false, true] {
          let live = await #expect(throws: DRError.self) {
            _ = try await BackupFixture.restore(
              manifest, from: repository, to: server.dataFolder, replacing: replacing)
          }
          #expect(live?.code == .destinationInUse)
        }
        #expect(try await server.query("SELECT count(*) FROM t").single == "5000")

        // The repository itself, and a place in it.
        for place in ["\(folder)/repository", "\(folder)/repository/postgres", "\(folder)/repository/new/below"] {
          let error = await #expect(throws: DRError.self, "\(place)") {
            _ = try await BackupFixture.restore(manifest, from: repository, to: place, replacing: true)
          }
          #expect(error?.code == .destinationInUse)
        }
        #expect(!FileManager.default.fileExists(atPath: "\(folder)/repository/new"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["repository"])

        let target = folder + "/target"
        mkdir(target, 0o700)
        try Data("precious".utf8).write(to: URL(filePath: target + "/precious"))
        let full = await #expect(throws: DRError.self) {
          _ = try await BackupFixture.restore(manifest, from: repository, to: target)
        }
        #expect(full?.code == .destinationInUse)
        #expect(try FileManager.default.contentsOfDirectory(atPath: target) == ["precious"])

        _ = try await BackupFixture.restore(manifest, from: repository, to: target, replacing: true)
        try await BackupFixture.verify(target, server)
        let kept = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("target.before-") }
        #expect(kept.count == 1)
        #expect(FileManager.default.fileExists(atPath: "\(folder)/\(kept.first ?? "")/precious"))
      }
    }
  }

  @Test("A flipped byte anywhere is found by the verifier and by the restore, and what was there stays")
  func flippedByte() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await BackupFixture.withRepository { repository, folder in
        let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository)
        #expect(
          try await BackupVerifier(manifest, in: repository).verify(logger: BackupFixture.logger)
            .allSatisfy { $0.severity == .passed })
        let target = folder + "/target"
        mkdir(target, 0o700)
        try Data("precious".utf8).write(to: URL(filePath: target + "/precious"))
        var random = TestData.Random(seed: 9)
        for artifact in manifest.artifacts {
          for _ in 0..<6 {
            let offset = Int64.random(in: 0..<artifact.storedSize, using: &random)
            let damaged = Repository(tier: DamagedTier(repository.tier, damaging: artifact.key, at: offset))
            let report = await VerificationReport.run(
              manifest.id, BackupVerifier(manifest, in: damaged), logger: BackupFixture.logger)
            #expect(report.verdict == .failed, "byte \(offset) of \(artifact.name)")
            #expect(report.findings.contains { $0.severity == .failure && $0.subject == artifact.key.rawValue })
            let error = await #expect(throws: DRError.self) {
              _ = try await BackupFixture.restore(manifest, from: damaged, to: target, replacing: true)
            }
            #expect(error?.object == artifact.key.rawValue)
            #expect(try FileManager.default.contentsOfDirectory(atPath: target) == ["precious"])
          }
        }
        let left = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        #expect(left == ["repository", "target"])
      }
    }
  }

  @Test("A restore that is cut off leaves nothing that a server starts on")
  func cutOff() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await BackupFixture.withRepository { repository, folder in
        let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository)
        // What a killed process leaves is what is there before the last frame.
        let artifact = try manifest.artifact("base.tar")
        let target = folder + "/target"
        let seen = Mutable(false)
        let watched = WatchedReader(repository.reader(for: manifest)) {
          if FileManager.default.fileExists(atPath: target + "/global/pg_control") { seen.set(true) }
        }
        let restorer = PostgresRestorer(dataFolder: target, recovery: RecoverySettings(restoreCommand: nil))
        _ = try await restorer.restore(from: watched, to: .latest, logger: BackupFixture.logger)
        #expect(!seen.value, "pg_control was there before \(artifact.name) had been read to its end")
        #expect(FileManager.default.fileExists(atPath: target + "/global/pg_control"))
      }
    }
  }

  @Test("Targets before the backup's end are refused before anything is written")
  func unreachable() async throws {
    try await PostgresSandbox.withSandbox(logger: BackupFixture.logger) { server in
      try await BackupFixture.withRepository { repository, folder in
        let manifest = try await BackupFixture.backUp(BackupFixture.source(server), to: repository)
        let restorer = PostgresRestorer(
          dataFolder: folder + "/target", recovery: RecoverySettings(restoreCommand: nil))
        for target in [
          RecoveryTarget.time(manifest.recoveryPoint.time.addingTimeInterval(-60)), .position("0/1000000"),
        ] {
          let error = await #expect(throws: DRError.self) {
            _ = try await restorer.restore(
              from: repository.reader(for: manifest), to: target, logger: BackupFixture.logger)
          }
          #expect(error?.code == .targetUnreachable)
        }
        #expect(!FileManager.default.fileExists(atPath: folder + "/target"))
      }
    }
  }

  @Test("Recovery settings replace those of an earlier recovery, and quote what they hold")
  func settings() throws {
    let settings = RecoverySettings(restoreCommand: "fetch 'a b' %f %p")
    let lines = try settings.lines(for: .time(Date(timeIntervalSince1970: 1_700_000_000.123456)))
    #expect(
      lines == [
        "restore_command = 'fetch ''a b'' %f %p'", "recovery_target_time = '2023-11-14 22:13:20.123456+00'",
        "recovery_target_timeline = 'latest'", "recovery_target_action = 'promote'",
        "recovery_target_inclusive = 'on'",
      ])
    let text = RecoverySettings.rewrite(
      "work_mem = '4MB'\nRecovery_Target_Time='x'\n  restore_command = 'old'\n", adding: ["a = 'b'"])
    #expect(text.contains("work_mem = '4MB'\n"))
    #expect(!text.lowercased().contains("recovery_target_time"))
    #expect(!text.contains("old"))
    #expect(try settings.lines(for: .immediate).contains("recovery_target_timeline = 'current'"))
    #expect(throws: DRError.self) { try settings.lines(for: .name("a\nb")) }
    #expect(throws: DRError.self) { try settings.lines(for: .position("nonsense")) }
  }
}

/// Calls back before each frame that it gives.
private struct WatchedReader: BackupReader {
  let reader: any BackupReader
  let watch: @Sendable () -> Void

  init(_ reader: any BackupReader, _ watch: @escaping @Sendable () -> Void) {
    self.reader = reader
    self.watch = watch
  }

  var manifest: BackupManifest { reader.manifest }

  func read(_ artifact: BackupManifest.Artifact) async throws -> ByteStream {
    let stream = try await reader.read(artifact)
    return ByteStream {
      watch()
      var iterator = stream.makeAsyncIterator()
      return try await iterator.next()
    }
  }

  func read(_ artifact: BackupManifest.Artifact, range: Range<Int64>) async throws -> ByteStream {
    try await reader.read(artifact, range: range)
  }
}

/// A value that several tasks look at.
final class Mutable<Value: Sendable>: Sendable {
  private let box: MutableBox<Value>
  init(_ value: Value) { box = MutableBox(value) }
  var value: Value { box.value }
  func set(_ value: Value) { box.withLock { $0 = value } }
}
