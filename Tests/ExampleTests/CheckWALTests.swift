import DRCore
import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

/// What `dr-postgres check-wal` says of an archive that is not as it should be: a finding, which is exit code 1. It ends
/// with 2 only where it could not look.
struct CheckWALTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  /// A backup, and whole segments and a partial one behind it.
  private static func withArchive(_ body: (ProgramPlace) async throws -> Void) async throws {
    try await ProgramPlace.with { place in
      var options = PostgresSandbox.Options()
      options.walSegmentSize = 1
      try await PostgresSandbox.withSandbox(options, logger: logger) { server in
        #expect(try await place.run("init").status == 0)
        let receiver = ReceiverProcess(folder: place.folder, server: server.settings)
        _ = try await receiver.prepare()
        try receiver.start()
        let taken = try await place.run("backup", at: server)
        try #require(taken.status == 0, "\(taken.error)")
        for _ in 0..<3 {
          try await server.query(
            "CREATE TABLE IF NOT EXISTS t (x text); INSERT INTO t SELECT md5(n::text) FROM generate_series(1, 20000) n"
          )
        }
        let end = try #require(try await server.query("SELECT pg_current_wal_flush_lsn()").single.flatMap { LSN($0) })
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
          let flushed = try await server.query("SELECT max(flush_lsn) FROM pg_stat_replication").single
          if let flushed = flushed.flatMap({ LSN($0) }), flushed >= end { break }
          try #require(ContinuousClock.now < deadline)
          try await Task.sleep(for: .milliseconds(50))
        }
        receiver.kill()
      }
      let sound = try await place.run("check-wal", "--read-all")
      try #require(sound.status == 0, "\(sound.output)\(sound.error)")
      try await body(place)
    }
  }

  @Test("A damaged partial segment is a finding that names it, and how far a recovery goes without it")
  func damagedPartial() async throws {
    try await Self.withArchive { place in
      let partial = try #require(try place.files(".partial").last)
      var content = try Data(contentsOf: URL(filePath: partial))
      content[content.count / 2] ^= 0xFF
      try content.write(to: URL(filePath: partial))
      let segment = String((partial as NSString).lastPathComponent.prefix(24))
      for depth in [[], ["--read-all"]] {
        let found = try await runCommand(ProgramPlace.program, place.arguments(["check-wal"] + depth))
        let said = String(decoding: found.output, as: UTF8.self)
        #expect(found.status == 1, "\(said)\(found.error)")
        let lines = said.split(separator: "\n")
        #expect(lines.contains { $0.hasPrefix("failure wal-digest \(segment): ") }, "\(said)")
        #expect(lines.contains { $0.contains("wal-restorable") && $0.contains("\(segment) cannot be used") }, "\(said)")
      }
    }
  }

  @Test("Two contents of one segment are a finding that names both")
  func twoContents() async throws {
    try await Self.withArchive { place in
      let whole = try place.files(".zst").filter { !$0.contains(".partial") && $0.contains("/wal/") }
      let first = try #require(whole.last)
      // The same name with other content, as a second server would store it.
      let name = (first as NSString).lastPathComponent
      let second =
        "\((first as NSString).deletingLastPathComponent)/\(name.prefix(25))\(String(repeating: "0", count: 64)).zst"
      try FileManager.default.copyItem(atPath: first, toPath: second)
      for depth in [[], ["--read-all"]] {
        let found = try await runCommand(ProgramPlace.program, place.arguments(["check-wal"] + depth))
        let said = String(decoding: found.output, as: UTF8.self)
        #expect(found.status == 1, "\(said)\(found.error)")
        let line = said.split(separator: "\n").first { $0.hasPrefix("failure wal-conflict \(name.prefix(24)): ") }
        let both = [first, second].map { String($0.dropFirst(place.repository.count + 1)) }
        #expect(both.allSatisfy { line?.contains($0) ?? false }, "\(said)")
      }
    }
  }

  @Test("A restore reads the WAL that it needs first when told to: a damaged segment is named, and nothing written")
  func restoreReadsFirst() async throws {
    try await Self.withArchive { place in
      let whole = try place.files(".zst").filter { !$0.contains(".partial") && $0.contains("/wal/") }
      // One in the middle, behind the backup.
      let damaged = whole[whole.count - 2]
      let sound = try Data(contentsOf: URL(filePath: damaged))
      var content = sound
      content[content.count / 2] ^= 0xFF
      try content.write(to: URL(filePath: damaged))
      let segment = (damaged as NSString).lastPathComponent.prefix(24)
      let target = place.folder + "/restored"
      let refused = try await place.run("restore", "--to", target, "--read-wal")
      #expect(refused.status == 2 && refused.error.contains("[target-unreachable]"), "\(refused.error)")
      #expect(refused.error.contains("\(segment) on the way cannot be used"), "\(refused.error)")
      #expect(!FileManager.default.fileExists(atPath: target))
      // A target before it needs it not.
      let early = try await place.run("restore", "--to", target, "--read-wal", "--immediate")
      #expect(early.status == 0, "\(early.error)")
      try sound.write(to: URL(filePath: damaged))
      let latest = try await place.run("restore", "--to", target + "-latest", "--read-wal")
      #expect(latest.status == 0, "\(latest.error)")
    }
  }

  @Test("Without the key the names are looked at, and no moment is claimed that nobody has read")
  func withoutTheKey() async throws {
    try await ProgramPlace.with { place in
      let made = try await runCommand(ProgramPlace.program, ["keygen", place.folder + "/key"])
      try #require(made.status == 0, "\(made.error)")
      let key = try String(contentsOfFile: place.folder + "/key", encoding: .utf8)
      let recipient = try #require(key.firstMatch(of: /age1[0-9a-z]+/)?.output)
      let encrypted = ", \"recipients\": [\"\(recipient)\"]"
      try place.configure(fields: encrypted)
      #expect(try await place.run("init").status == 0)
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        let receiver = ReceiverProcess(folder: place.folder, server: server.settings)
        _ = try await receiver.prepare()
        try place.configure(fields: encrypted)
        try receiver.start()
        let taken = try await place.run("backup", at: server)
        try #require(taken.status == 0, "\(taken.error)")
        receiver.kill()
      }
      func check() async throws -> ProgramPlace.Said { try await place.run("check-wal") }
      let blind = try await check()
      #expect(blind.status == 0, "\(blind.output)\(blind.error)")
      #expect(blind.output.contains("and at least "), "\(blind.output)")
      #expect(blind.output.contains("the last commits cannot be read: "), "\(blind.output)")
      #expect(blind.output.contains("notice wal-read "), "\(blind.output)")
      try place.configure(fields: encrypted + ", \"identityFile\": \"\(place.folder)/key\"")
      let seeing = try await check()
      #expect(seeing.status == 0 && !seeing.output.contains("and at least "), "\(seeing.output)\(seeing.error)")
      // With a key that opens nothing it could not look.
      let other = try await runCommand(ProgramPlace.program, ["keygen", place.folder + "/other"])
      try #require(other.status == 0, "\(other.error)")
      try place.configure(fields: encrypted + ", \"identityFile\": \"\(place.folder)/other\"")
      let blinded = try await check()
      #expect(blinded.status == 2 && blinded.output.contains("could not verify"), "\(blinded.output)\(blinded.error)")
      try place.configure(fields: encrypted + ", \"identityFile\": \"\(place.folder)/key\"")
      let all = try await place.run("check-wal", "--read-all")
      #expect(all.status == 0 && all.output.contains("passed wal-read "), "\(all.output)\(all.error)")
    }
  }

  @Test("A repository that cannot be looked at is no finding")
  func notThere() async throws {
    try await ProgramPlace.with { place in
      let result = try await place.run("check-wal")
      #expect(result.status == 2, "\(result.error)")
    }
  }
}
