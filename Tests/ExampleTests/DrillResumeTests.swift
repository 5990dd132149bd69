import DRCore
import DRPlan
import DRTestSupport
import Foundation
import Testing

/// A drill that is killed in the middle goes on where it was, and comes to the same.
struct DrillResumeTests {
  private static let small = ["--size", "4MB", "--seconds", "1", "--connections", "2"]

  /// Without that it was resumed, and without the parts of its steps: what went with a drill that was killed is brought back once more.
  private static func checks(_ report: RunReport) -> [String] {
    report.findings.filter { $0.check != "resumed" && $0.subject.wholeMatch(of: /.*-[0-9]+/) == nil }
      .map { "\($0.check) of \($0.subject): \($0.severity.rawValue)" }.sorted()
  }

  @Test(
    "Configuration and Redis: killed in a recovery and in a verification, resumed, and the checks are those of a drill that nobody disturbed"
  )
  func twice() async throws {
    let options = ["--system", "files", "redis"] + Self.small
    try await DrillPlace.with { place in
      let undisturbed = try place.start(options + ["--report", "\(place.folder)/undisturbed"])
      try await DrillPlace.with { other in
        let drill = try other.start(options)
        let folder = try await other.folder(of: drill)
        try await other.kill(drill, once: "the configuration to be back") {
          DrillJournal(of: folder).done.contains("recover-config")
        }
        let first = DrillJournal(of: folder)
        #expect(!first.done.contains("recover-redis"), "\(first)")
        // Another drill does not take it away.
        let meanwhile = try await other.run(["--system", "files", "--seconds", "0.5"])
        #expect(meanwhile.status == 0 && FileManager.default.fileExists(atPath: folder), "\(meanwhile.said)")

        let resumed = try other.start(["--resume", folder])
        try await other.kill(resumed, once: "a verification to run") { resumed.said.contains("verify-redis: begun") }
        #expect(resumed.said.contains("resumed: its disaster was at"), "\(resumed.said)")
        // What the drill knew is for its owner alone.
        for name in try FileManager.default.subpathsOfDirectory(atPath: folder + "/record") {
          let mode = try FileManager.default.attributesOfItem(atPath: "\(folder)/record/\(name)")[.posixPermissions]
          #expect((mode as? Int).map { $0 & 0o077 } == 0, "\(name)")
        }
        let second = DrillJournal(of: folder)
        let last = try await other.run(["--resume", folder, "--report", "\(other.folder)/resumed"])
        #expect(last.status == 0, "\(last.said)")
        for step in first.done { #expect(second.started.filter { $0 == step }.count == 1, "\(second)") }
        for step in second.done {
          #expect(last.said.contains("\(step): done before") && !last.said.contains("\(step): begun"), "\(last.said)")
        }
        #expect(other.left == [] && other.processes.isEmpty, "\(other.left) \(other.processes)")

        let plain = try await undisturbed.end(within: .seconds(120))
        #expect(plain.status == 0, "\(plain.said)")
        let (one, two) = (try place.report("undisturbed"), try other.report("resumed"))
        #expect(one.verdict == .passed && two.verdict == .passed, "\(two.sentence)")
        #expect(Self.checks(one) == Self.checks(two))
        #expect(Set(Self.checks(two)).count == Self.checks(two).count)
        #expect(one.plan == two.plan && two.versions["redis"] != nil)
        #expect(two.findings.filter { $0.check == "resumed" }.count == 2)
        // The time in which it was dead counts.
        let times = two.components.compactMap(\.rto.actual)
        #expect(times.count == 2 && two.rto.actual == times.max())
        let dead = try #require(two.components.first { $0.component.kind == .redis }?.rto.actual)
        #expect(dead > (try #require(one.components.first { $0.component.kind == .redis }?.rto.actual)))
      }
      #expect(place.left == [] && place.processes.isEmpty, "\(place.left) \(place.processes)")
    }
  }

  @Test(
    "PostgreSQL, killed before the disaster is noticed, while its files are restored, and while it is verified: half a folder and a server that was left are gone, and it passes"
  )
  func postgres() async throws {
    try await DrillPlace.with { place in
      let drill = try place.start(["--system", "postgres", "--size", "20MB", "--seconds", "0.5", "--connections", "2"])
      let folder = try await place.folder(of: drill)
      try await place.kill(drill, once: "the disaster") { drill.said.contains("the disaster is on record") }
      // As it is between the record of the disaster and the first step: the next one notices it, from where the server was.
      for name in try FileManager.default.contentsOfDirectory(atPath: folder + "/record")
      where name == "journal" || name.hasPrefix("step-") {
        try FileManager.default.removeItem(atPath: "\(folder)/record/\(name)")
      }
      let half = "\(folder)/postgres-at-target"
      let noticing = try place.start(["--resume", folder])
      try await place.kill(noticing, once: "files to be restored") { access(half + "/base", F_OK) == 0 }
      #expect(noticing.said.contains("by postgres-answers"), "\(noticing.said)")
      let journal = DrillJournal(of: folder)
      #expect(journal.started.last == "recover-postgres" && !journal.done.contains("recover-postgres"), "\(journal)")
      #expect(FileManager.default.fileExists(atPath: half))

      let resumed = try place.start(["--resume", folder])
      try await place.kill(resumed, once: "the verification") { resumed.said.contains("verify-postgres: begun") }
      // Its server has outlived it.
      #expect(!place.processes.isEmpty)
      let last = try await place.run(["--resume", folder, "--report", "\(place.folder)/resumed"])
      #expect(last.status == 0, "\(last.said)")
      let report = try place.report("resumed")
      #expect(report.verdict == .passed, "\(report.sentence)")
      #expect(report.findings.contains { $0.check == "a-dropped-table-came-back-from-the-base-backup" })
      #expect(place.left == [] && place.processes.isEmpty, "\(place.left) \(place.processes)")
    }
  }

  @Test(
    "What cannot be resumed is refused: a folder that is none, a drill that runs, one before its disaster, one that has ended"
  )
  func refused() async throws {
    try await DrillPlace.with { place in
      let none = try await place.run(["--resume", place.temporary])
      #expect(none.status == 2 && none.said.contains("no drill has its folder there"), "\(none.said)")
      let options = try await place.run(["--resume", place.temporary, "--system", "files"])
      #expect(options.status == 64 && options.said.contains("--resume goes with"), "\(options.said)")

      let drill = try place.start(["--system", "files", "--seconds", "60"])
      let folder = try await place.folder(of: drill)
      try await eventually("the tree to be changed") { drill.said.contains("changing") }
      let running = try await place.run(["--resume", folder])
      #expect(running.status == 2 && running.said.contains("this drill runs right now"), "\(running.said)")
      drill.send(SIGKILL)
      #expect(try await drill.end(within: .seconds(20)).status == 137)
      let early = try await place.run(["--resume", folder])
      #expect(early.status == 2 && early.said.contains("nothing to bring back"), "\(early.said)")
      #expect(early.said.contains("begin anew"), "\(early.said)")

      // The next one removes what that one has left.
      let kept = try place.start(["--system", "files", "--seconds", "0.5", "--keep"])
      let place2 = try await place.folder(of: kept)
      let ended = try await kept.end(within: .seconds(60))
      #expect(ended.status == 0 && ended.said.contains("Stock tools open it"), "\(ended.said)")
      #expect(place.left == [(place2 as NSString).lastPathComponent])
      let again = try await place.run(["--resume", place2])
      #expect(again.status == 2 && again.said.contains("this drill has ended"), "\(again.said)")
    }
  }

  @Test("A drill that can be resumed is kept for a day, and removed by the next one after that")
  func expiry() async throws {
    try await DrillPlace.with { place in
      let drill = try place.start(["--system", "files", "--seconds", "0.5", "--ask", "60"], input: Pipe())
      let folder = try await place.folder(of: drill)
      try await place.kill(drill, once: "the question") { drill.said.contains("bring the platform back?") }
      let before = try await place.run(["--system", "files", "--seconds", "0.5"])
      #expect(before.status == 0 && place.left == [(folder as NSString).lastPathComponent], "\(before.said)")
      // What cannot go on now is not lost.
      let journal = try Data(contentsOf: URL(filePath: folder + "/record/journal"))
      try Data("nonsense\n".utf8).write(to: URL(filePath: folder + "/record/journal"))
      let broken = try await place.run(["--resume", folder])
      #expect(broken.status == 2 && broken.said.contains("is no journal of a recovery"), "\(broken.said)")
      #expect(broken.said.contains("what it knows is kept: dr-drill --resume \(folder)"), "\(broken.said)")
      #expect(place.left == [(folder as NSString).lastPathComponent] && place.processes.isEmpty)
      try journal.write(to: URL(filePath: folder + "/record/journal"))
      for name in try FileManager.default.contentsOfDirectory(atPath: folder + "/record") {
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSinceNow: -90_000)], ofItemAtPath: "\(folder)/record/\(name)")
      }
      let after = try await place.run(["--system", "files", "--seconds", "0.5"])
      #expect(after.status == 0 && place.left == [], "\(after.said)")
    }
  }

  @Test(
    "A drill that failed and was kept can be resumed; one that is told to stop takes everything with it, resumed or not"
  )
  func keptAndStopped() async throws {
    try await DrillPlace.with { place in
      let (no, yes) = (Pipe(), Pipe())
      let failed = try place.start(["--system", "files", "--seconds", "0.5", "--ask", "60", "--keep"], input: no)
      let folder = try await place.folder(of: failed)
      try no.fileHandleForWriting.write(contentsOf: Data("no\n".utf8))
      #expect(try await failed.end(within: .seconds(60)).status == 1)
      let resumed = try place.start(["--resume", folder], input: yes)
      try yes.fileHandleForWriting.write(contentsOf: Data("yes\n".utf8))
      let ended = try await resumed.end(within: .seconds(60))
      #expect(ended.status == 0 && ended.said.contains("detect: done before"), "\(ended.said)")
      #expect(place.left == [])

      let drill = try place.start(["--system", "files", "--seconds", "0.5", "--ask", "60"], input: Pipe())
      let next = try await place.folder(of: drill)
      try await place.kill(drill, once: "the question") { drill.said.contains("bring the platform back?") }
      let stopped = try place.start(["--resume", next], input: Pipe())
      try await eventually("the question") { stopped.said.contains("bring the platform back?") }
      stopped.send(SIGTERM)
      let told = try await stopped.end(within: .seconds(60))
      #expect(told.status == 143 && told.said.contains("its servers and folders are gone"), "\(told.said)")
      #expect(place.left == [] && place.processes.isEmpty, "\(place.left)")
    }
  }
}

/// What a drill's report says of its phases.
struct DrillReportTests {
  @Test(
    "Detection, decision, recovery, verification, negative control and clean-up are measured; a person decides when asked"
  )
  func phases() async throws {
    try await DrillPlace.with { place in
      let input = Pipe()
      let drill = try place.start(
        ["--system", "files", "--seconds", "0.5", "--ask", "60", "--report", "\(place.folder)/report"], input: input)
      try await eventually("the question") { drill.said.contains("bring the platform back?") }
      // What a person takes counts.
      try await Task.sleep(for: .seconds(2))
      try input.fileHandleForWriting.write(contentsOf: Data("yes\n".utf8))
      let ended = try await drill.end(within: .seconds(60))
      #expect(ended.status == 0, "\(ended.said)")
      let report = try place.report("report")
      #expect(report.verdict == .passed && report.notRun.isEmpty, "\(report.sentence)")
      #expect(report.phases.map(\.kind) == RunReport.Phase.Kind.allCases)
      let phases = Dictionary(uniqueKeysWithValues: report.phases.map { ($0.kind, $0) })
      for phase in report.phases {
        #expect(phase.duration != nil && phase.steps.allSatisfy { $0.outcome == .done }, "\(phase)")
      }
      let detection = try #require(phases[.detection])
      #expect(
        detection.started == report.disaster && detection.duration ?? .seconds(0) > Span(.milliseconds(1)),
        "\(detection)")
      #expect(detection.steps.first?.evidence.contains("config-answers") == true, "\(detection)")
      #expect(phases[.decision]?.started == detection.ended)
      #expect(phases[.decision]?.duration ?? .seconds(0) > .seconds(2))
      #expect(report.rto.actual ?? .seconds(0) > .seconds(2))
      let critical = report.phases.flatMap(\.steps).filter(\.isCritical).map(\.id)
      #expect(Set(critical).isSuperset(of: ["detect", "decide", "recover-config"]), "\(critical)")
      #expect(
        report.findings.contains { $0.check == "nothing-was-taken-for-a-disaster-before-it" && $0.severity == .passed })
      #expect(place.left == [] && place.processes.isEmpty)
    }
  }

  @Test(
    "An answer that is no, or none in time, fails the drill: nothing is brought back, and it is cleaned up",
    arguments: ["no\n", ""])
  func refusal(answer: String) async throws {
    try await DrillPlace.with { place in
      let input = Pipe()
      let drill = try place.start(
        ["--system", "files", "--seconds", "0.5", "--ask", "1", "--report", "\(place.folder)/report"], input: input)
      try input.fileHandleForWriting.write(contentsOf: Data(answer.utf8))
      let ended = try await drill.end(within: .seconds(60))
      #expect(ended.status == 1 && !ended.said.contains("recover-config: begun"), "\(ended.said)")
      let report = try place.report("report")
      #expect(report.verdict == .failed && report.rto.actual == nil, "\(report.sentence)")
      let steps = report.phases.flatMap(\.steps)
      #expect(steps.first { $0.id == "decide" }?.outcome == .failed)
      #expect(steps.first { $0.id == "recover-config" }?.outcome == .notExecuted)
      #expect(steps.first { $0.id == "clean-up" }?.outcome == .done)
      #expect(place.left == [] && place.processes.isEmpty)
    }
  }
}
