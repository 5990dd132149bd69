import DRCore
import DRPostgres
import DRRedis
import DRTestSupport
import Foundation
import Logging
import Testing

/// Programs that are told to stop in the middle of their work.
struct EndedBySignalTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  @Test(
    "A backup that is told to stop ends the server's backup at once, leaves nothing, and says so",
    arguments: [SIGTERM, SIGINT])
  func backup(signal: Int32) async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      let empty = try place.plainFiles()
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        // At this rate it would take minutes.
        let running = try RunningProgram(
          place.arguments(["backup", "--include-wal", "--max-rate", "100000"], at: server), in: place.folder)
        let under = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase = 'streaming database files'"
        try await eventually("the backup to run") { try await server.query(under).single == "1" }
        try await eventually("something to be written") { try place.plainFiles().count > empty.count }
        let told = ContinuousClock.now
        running.send(signal)
        let ended = try await running.end(within: .seconds(20))
        #expect(ended.status == 128 + signal, "\(ended.said)")
        #expect(told.duration(to: .now) < .seconds(5))
        let name = signal == SIGINT ? "SIGINT" : "SIGTERM"
        let lines = ended.said.split(separator: "\n").filter { !$0.hasPrefix("backup ") }
        #expect(lines == ["ended by \(name): nothing was committed"], "\(ended.said)")
        try await eventually("the server's backup to end", within: .seconds(5)) {
          try await server.query("SELECT count(*) FROM pg_stat_progress_basebackup").single == "0"
        }
        let left = try place.plainFiles().filter { !empty.contains($0) }
        #expect(left.isEmpty, "\(left)")
      }
    }
  }

  @Test("A drill that is told to stop takes its servers and folders with it, and says so")
  func drill() async throws {
    func folders(of process: Int32) throws -> [String] {
      let parent = FileManager.default.temporaryDirectory.path
      return try FileManager.default.contentsOfDirectory(atPath: parent).filter {
        let owner = try? String(contentsOfFile: "\(parent)/\($0)/owner.pid", encoding: .utf8)
        return $0.hasPrefix("dr-drill-") && owner == "\(process)"
      }
    }
    try await withTemporaryFolder { folder in
      // A server's processes belong to another user.
      chmod(folder, 0o755)
      let running = try RunningProgram(
        ["--system", "postgres", "--size", "5MB", "--seconds", "60"], of: ReceiverProcess.built("dr-drill"), in: folder)
      try await eventually("the ledger to be written") { running.said.contains("ledger") }
      #expect(try folders(of: running.processIdentifier).count == 1)
      running.send(SIGTERM)
      let ended = try await running.end(within: .seconds(60))
      #expect(ended.status == 143, "\(ended.said)")
      let last = ended.said.split(separator: "\n").last
      #expect(last == "ended by SIGTERM: its servers and folders are gone", "\(ended.said)")
      #expect(!ended.said.contains("CancellationError"), "\(ended.said)")
      #expect(try folders(of: running.processIdentifier).isEmpty)
    }
  }

  @Test("What a killed restore has left of tablespaces is emptied by the next one, and nothing else is")
  func tablespaces() async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      // Servers run as another user when the tests run as root.
      chmod(place.folder, 0o711)
      let former = place.folder + "/space"
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        mkdir(former, 0o700)
        if let user = server.user { chown(former, user.userID, user.groupID) }
        try await server.query("CREATE TABLESPACE space LOCATION '\(former)'")
        try await server.query(
          "CREATE TABLE t TABLESPACE space AS SELECT n, sha512(n::text::bytea) AS x FROM generate_series(1, 2000000) n")
        let taken = try await place.run("backup", "--include-wal", at: server)
        try #require(taken.status == 0, "\(taken.error)")
      }
      let (target, space) = (place.folder + "/restored", place.folder + "/moved")
      let arguments = place.arguments(
        ["restore", "--to", target, "--immediate", "--tablespace", "\(former)=\(space)"])
      func folders(_ path: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).filter { $0.hasPrefix("PG_") }
      }
      func isWritten() -> Bool { !folders(space + "/.dr-restoring").isEmpty }
      let running = try RunningProgram(arguments, in: place.folder)
      try await eventually("a tablespace to be restored") { isWritten() }
      // As long as it runs, nobody else gets in.
      running.send(SIGSTOP)
      for more in [[], ["--replace"]] {
        let second = try await runCommand(ProgramPlace.program, arguments + more)
        #expect(second.status == 2 && second.error.contains("writes into this folder right now"), "\(second.error)")
      }
      running.send(SIGKILL)
      #expect(try await running.end(within: .seconds(20)).status == 137)

      try FileManager.default.removeItem(atPath: target)
      // A server has made a tablespace beside it since: what is the server's is not what was left.
      mkdir(space + "/PG_15_live", 0o700)
      for more in [[], ["--replace"]] {
        let live = try await runCommand(ProgramPlace.program, arguments + more)
        #expect(live.status == 2 && live.error.contains("holds something") && isWritten(), "\(live.error)")
      }
      rmdir(space + "/PG_15_live")
      let again = try await runCommand(ProgramPlace.program, arguments)
      #expect(again.status == 0, "\(again.error)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: space) == folders(space) && !folders(space).isEmpty)

      // What is a server's is never emptied.
      let next = place.arguments(
        ["restore", "--to", target + "-2", "--immediate", "--replace", "--tablespace", "\(former)=\(space)"])
      let refused = try await runCommand(ProgramPlace.program, next)
      #expect(
        refused.status == 2 && refused.error.contains("--tablespace OLD=NEW") && !folders(space).isEmpty,
        "\(refused.error)")
    }
  }

  @Test("A restore that is told to stop leaves nothing; one that was killed leaves what the next one knows")
  func restore() async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        try await server.query(
          "CREATE TABLE t AS SELECT n, sha512(n::text::bytea) AS x FROM generate_series(1, 2000000) n")
        let taken = try await place.run("backup", "--include-wal", at: server)
        try #require(taken.status == 0, "\(taken.error)")
      }
      let target = place.folder + "/restored"
      let arguments = place.arguments(["restore", "--to", target, "--immediate"])
      func interrupted(_ signal: Int32) async throws -> (status: Int32, said: String) {
        let running = try RunningProgram(arguments, in: place.folder)
        try await eventually("files to be restored") { access(target + "/base/1", F_OK) == 0 }
        running.send(signal)
        return try await running.end(within: .seconds(20))
      }
      let told = try await interrupted(SIGTERM)
      #expect(told.status == 143 && told.said.contains("ended by SIGTERM: nothing was restored"), "\(told.said)")
      #expect(!FileManager.default.fileExists(atPath: target))

      #expect(try await interrupted(SIGKILL).status == 137)
      // The same command again, as a plan's journal goes on with it: what was left is kept beside.
      let again = try await runCommand(ProgramPlace.program, arguments)
      #expect(again.status == 0, "\(again.error)")
      let beside = try FileManager.default.contentsOfDirectory(atPath: place.folder)
        .filter { $0.hasPrefix("restored.before-") }
      #expect(beside.count == 1, "\(beside)")
      #expect(access(target + "/global/pg_control", F_OK) == 0 && access(target + "/.dr-restoring", F_OK) != 0)

      // Whole, it is no longer what a killed restore left.
      let refused = try await runCommand(ProgramPlace.program, arguments)
      #expect(refused.status == 2 && !refused.error.contains("killed"), "\(refused.error)")
    }
  }

  @Test("A snapshot that is told to stop ends the server's own at once, leaves nothing, and says so")
  func snapshot() async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      #expect(try await place.run("init").status == 0)
      let empty = try place.plainFiles()
      // With that delay for each key it would take a minute.
      let options = RedisSandbox.Options(settings: ["repl-diskless-sync-delay": "0", "rdb-key-save-delay": "300"])
      try await RedisSandbox.withSandbox(options, logger: Self.logger) { server in
        try await server.command(
          "EVAL", "for i = 1, 200000 do redis.call('SET', 'key:' .. i, i) end", "0")
        guard case .unix(let socket) = server.settings.address else {
          throw DRError(.invalidConfiguration, "the server has no socket")
        }
        func isSaving() async throws -> Bool {
          RedisInfo(try await server.command("INFO", "persistence").text ?? "").integer("rdb_bgsave_in_progress") == 1
        }
        let running = try RunningProgram(
          place.arguments(["backup", "--server", "unix://\(socket)"]), of: place.program, in: place.folder)
        try await eventually("the server's snapshot") { try await isSaving() }
        try await eventually("something to be written") { try place.plainFiles().count > empty.count }
        let told = ContinuousClock.now
        running.send(SIGTERM)
        let ended = try await running.end(within: .seconds(20))
        #expect(ended.status == 128 + SIGTERM, "\(ended.said)")
        #expect(told.duration(to: .now) < .seconds(5))
        let lines = ended.said.split(separator: "\n").filter { !$0.hasPrefix("backup ") }
        #expect(lines == ["ended by SIGTERM: nothing was committed"], "\(ended.said)")
        try await eventually("the server's snapshot to end", within: .seconds(5)) { try await !isSaving() }
        #expect(try place.plainFiles() == empty)
      }
    }
  }

  @Test("A capture of files that is told to stop leaves nothing, and neither does a restore of them; both say so")
  func files() async throws {
    try await ProgramPlace.with("dr-files", component: "config/test") { place in
      #expect(try await place.run("init").status == 0)
      let empty = try place.plainFiles()
      let tree = place.folder + "/tree"
      try FileManager.default.createDirectory(atPath: tree, withIntermediateDirectories: false)
      let filled = try await runCommand("sh", ["-c", "head -c 500000000 /dev/urandom > '\(tree)/noise'"])
      try #require(filled.status == 0, "\(filled.error)")

      let capture = try RunningProgram(
        place.arguments(["capture", tree]), of: place.program, in: place.folder)
      try await eventually("something to be written") { try place.plainFiles().count > empty.count }
      capture.send(SIGTERM)
      let ended = try await capture.end(within: .seconds(20))
      #expect(ended.status == 128 + SIGTERM, "\(ended.said)")
      let lines = ended.said.split(separator: "\n").filter { !$0.hasPrefix("capture ") }
      #expect(lines == ["ended by SIGTERM: nothing was committed"], "\(ended.said)")
      #expect(try place.plainFiles() == empty)

      let taken = try await place.run("capture", tree)
      try #require(taken.status == 0, "\(taken.error)")
      let above = place.folder + "/above"
      func inside() -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: above)) ?? [] }
      let restore = try RunningProgram(
        place.arguments(["restore", "--to", above + "/restored"]), of: place.program, in: place.folder)
      try await eventually("something to be restored") { !inside().isEmpty }
      restore.send(SIGINT)
      let stopped = try await restore.end(within: .seconds(20))
      #expect(stopped.status == 128 + SIGINT, "\(stopped.said)")
      #expect(stopped.said.contains("ended by SIGINT: nothing was restored"), "\(stopped.said)")
      #expect(inside().isEmpty)
    }
  }
}
