import DRPostgres
import DRTestSupport
import Foundation
import Logging
import Testing

/// What `dr-postgres clean` says after a backup that was killed.
struct CleanTests {
  @Test("What is too young to be cleaned is named, with when it will be; later it goes")
  func young() async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      try await PostgresSandbox.withSandbox(
        logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
      ) { server in
        let running = try RunningProgram(
          place.arguments(["backup", "--include-wal", "--max-rate", "100000"], at: server), in: place.folder)
        // An artifact: the marker before it has a temporary file too, and the audit trail's line.
        try await eventually("an artifact to be begun") {
          try place.files(".dr-tmp").contains { !$0.contains("/metadata/") && !$0.contains("/audit/") }
        }
        running.send(SIGKILL)
        _ = try await running.end(within: .seconds(20))
      }
      let early = try await place.run("clean", "--older-than-hours", "2")
      #expect(early.status == 0 && early.output.contains("removed 0 interrupted backups"), "\(early.output)")
      let left = try #require(
        early.output.firstMatch(of: /left (backup_\d+_\d+) .* sign of life was at (\S+), .* from (\S+) on/))
      let (alive, removable) = (String(left.2), String(left.3))
      let times = ISO8601DateFormatter()
      times.formatOptions = [.withInternetDateTime, .withFractionalSeconds]
      let from = try #require(times.date(from: alive))
      let to = try #require(times.date(from: removable))
      #expect(abs(to.timeIntervalSince(from) - 7200) < 1 && abs(from.timeIntervalSinceNow) < 60)

      for file in try place.files("") {
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSinceNow: -7300)], ofItemAtPath: file)
      }
      let late = try await place.run("clean", "--older-than-hours", "2")
      #expect(late.output.contains("removed 1 interrupted backups") && !late.output.contains("left"), "\(late.output)")
      #expect(try place.files("backup_").filter { !$0.hasSuffix(String(left.1)) }.isEmpty)
    }
  }
}
