import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

/// `dr-postgres` told to stop in the middle of its work.
struct EndedBySignalTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  @Test(
    "A backup that is told to stop ends the server's backup at once, leaves nothing, and says so",
    arguments: [SIGTERM, SIGINT])
  func backup(signal: Int32) async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      let empty = try place.files("")
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        // At this rate it would take minutes.
        let running = try RunningProgram(
          place.arguments(["backup", "--include-wal", "--max-rate", "100000"], at: server), in: place.folder)
        let under = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase = 'streaming database files'"
        try await eventually("the backup to run") { try await server.query(under).single == "1" }
        try await eventually("something to be written") { try place.files("").count > empty.count }
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
        // Files only: folders may stay.
        var isFolder: ObjCBool = false
        let left = try place.files("").filter {
          FileManager.default.fileExists(atPath: $0, isDirectory: &isFolder) && !isFolder.boolValue
            && !empty.contains($0)
        }
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
        ["--system", "postgres", "--size", "5MB", "--seconds", "60"], in: folder,
        program: ReceiverProcess.built("dr-drill"))
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
      let again = try await runCommand(ProgramPlace.program, arguments)
      #expect(again.status == 2 && again.error.contains("has left that was killed"), "\(again.error)")
      #expect(again.error.contains("--replace"), "\(again.error)")
      let replaced = try await runCommand(ProgramPlace.program, arguments + ["--replace"])
      #expect(replaced.status == 0, "\(replaced.error)")
      #expect(access(target + "/global/pg_control", F_OK) == 0 && access(target + "/.dr-restoring", F_OK) != 0)

      // Whole, it is no longer what a killed restore left.
      let refused = try await runCommand(ProgramPlace.program, arguments)
      #expect(refused.status == 2 && !refused.error.contains("killed"), "\(refused.error)")
    }
  }
}
