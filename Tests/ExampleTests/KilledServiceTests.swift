import DRCore
import DRTestSupport
import Foundation
import Testing

/// What `dr-backup serve` leaves when it is killed, and who ends it.
@Suite(.serialized) struct KilledServiceTests {
  /// A platform with a log that goes on until it is told to end.
  private static func with(_ body: (ScenarioPlace, _ serve: [String]) async throws -> Void) async throws {
    try await ScenarioPlace.with(["dr-backup", "dr-files"]) { place in
      let files = try place.configure("config/app")
      try await place.done("dr-files", "init", "--config", files)
      // It says which it is, and when it was told to end; what it has started ends with it.
      try place.write(
        """
        # Whoever read what it says is gone with the service: a shell that says that its child was ended would end by that.
        exec 2> /dev/null
        trap 'echo told >> "\(place.folder)/told"; exit 0' TERM
        sleep 296 & child=$!
        echo $$ $child >> "\(place.folder)/started"
        while :; do sleep 0.1; done
        """, to: "log.sh")
      try place.write(
        """
        {
          "plan": {
            "name": "small", "platform": {"rto": "1h", "rpo": "1h", "priority": "critical"},
            "tiers": [{"name": "local", "place": "\(place.folder)", "retention": {"rules": [{"days": 7}]}}],
            "components": [
              {"component": "config/app", "objective": {"rto": "30m", "rpo": "24h", "priority": "high"}, "tiers": ["local"],
               "captures": [{"name": "archive", "purpose": "full", "schedule": {"cron": "0 3 * * *"}, "cadence": "daily"},
                            {"name": "log", "purpose": "log", "schedule": {"continuous": "5s"}}]}
            ]
          },
          "repository": "\(place.folder)/repository-config-app",
          "components": {
            "config/app": {
              "config": "\(files)",
              "captures": {"archive": ["true"], "log": ["sh", "\(place.folder)/log.sh"]}
            }
          }
        }
        """, to: "platform.json5")
      try await body(
        place,
        [
          "serve", "--platform", "\(place.folder)/platform.json5", "--lease", "2s", "--run-folder",
          "\(place.folder)/running",
        ])
    }
  }

  /// The numbers of the programs and of what they started, in the order of their starts.
  private static func started(_ place: ScenarioPlace) -> [[Int32]] {
    ((try? String(contentsOfFile: "\(place.folder)/started", encoding: .utf8)) ?? "").split(separator: "\n")
      .map { $0.split(separator: " ").compactMap { Int32($0) } }.filter { $0.count == 2 }
  }

  private static func isRunning(_ process: Int32) -> Bool { !state(process).contains(") Z") }

  private static func state(_ process: Int32) -> String {
    (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ") Z"
  }

  @Test("What a killed service had started is told to end by the next one, before that begins anything")
  func next() async throws {
    try await Self.with { place, serve in
      try await place.whileRunning("dr-backup", serve, ending: SIGKILL) { first in
        try await eventually("the log to run") { Self.started(place).count == 1 }
        // Nobody whose starter lives is touched.
        try await place.whileRunning("dr-backup", serve) { second in
          try await eventually("the second to wait") { second.said.contains("waiting: another host holds the lease") }
          try await Task.sleep(for: .seconds(6))
          #expect(!second.said.contains("had left running"))
        }
        #expect(Self.started(place).count == 1 && Self.isRunning(Self.started(place)[0][0]))
      }
      let left = try #require(Self.started(place).first)
      #expect(left.allSatisfy(Self.isRunning), "a kill of the service is none of what it runs")
      let last = try await place.whileRunning("dr-backup", serve) { next in
        try await eventually("the next to have begun it") { Self.started(place).count == 2 }
        #expect(next.said.contains("ended what one that was killed had left running: \(left[0])"), "\(next.said)")
        #expect(!left.contains(where: Self.isRunning))
        let told = try String(contentsOfFile: "\(place.folder)/told", encoding: .utf8)
        #expect(told == "told\n")
        let own = Self.started(place)[1]
        #expect(own.allSatisfy(Self.isRunning))
        return next
      }
      #expect(last.said.contains("ended in good order"), "\(last.said)")
      let own = Self.started(place)[1]
      #expect(!own.contains(where: Self.isRunning), "its own end with it: \(own.map(Self.state)), \(last.said)")
      let notes = try FileManager.default.contentsOfDirectory(atPath: "\(place.folder)/running")
      #expect(notes.isEmpty, "\(notes)")
    }
  }

  @Test("A service that waited takes the place of one that is killed, and ends what that had started")
  func standby() async throws {
    try await Self.with { place, serve in
      try await place.whileRunning("dr-backup", serve, ending: SIGKILL) { first in
        try await eventually("the first to work") { Self.started(place).count == 1 }
        let left = Self.started(place)[0]
        try await place.whileRunning("dr-backup", serve) { second in
          try await eventually("the second to wait") { second.said.contains("waiting: another host holds the lease") }
          first.send(SIGKILL)
          try await eventually("it to end what the first had started", within: .seconds(90)) {
            second.said.contains("had left running: \(left[0])")
          }
          #expect(!left.contains(where: Self.isRunning))
          try await eventually("it to work", within: .seconds(90)) { Self.started(place).count == 2 }
        }
      }
      // A note of a number that is another program's by now names nobody to end.
      let (folder, me) = ("\(place.folder)/running", getpid())
      for boot in ["otherboot", RunningBoot.id] {
        _ = FileManager.default.createFile(atPath: "\(folder)/1234.1.\(me).1.\(boot)", contents: nil)
      }
      try await place.whileRunning("dr-backup", serve) { third in
        try await eventually("it to work", within: .seconds(90)) { third.said.contains("working") }
        #expect(!third.said.contains("had left running"), "\(third.said)")
      }
      #expect(Self.isRunning(me))
      let notes = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(notes.isEmpty, "\(notes)")
    }
  }

  private enum RunningBoot {
    static let id = ((try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? "")
      .filter { $0.isLetter || $0.isNumber }
  }

  @Test("A folder that others could write notes into is refused")
  func refused() async throws {
    try await Self.with { place, serve in
      let folder = "\(place.folder)/open"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
      chmod(folder, 0o777)
      let answer = try await place.run("dr-backup", Array(serve.dropLast()) + [folder])
      #expect(answer.status == 2 && answer.error.contains("is not this user's alone"), "\(answer)")
    }
  }
}
