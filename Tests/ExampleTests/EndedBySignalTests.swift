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
}
