import DRCore
import DRPlan
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// What `dr-plan` keeps of a recovery, however it ends.
struct RecoveryEvidenceTests {
  private static func run(_ program: String, _ arguments: String..., in folder: String) async throws -> ProgramAnswer {
    let result = try await runCommand(ReceiverProcess.built(program), arguments, workingDirectory: folder)
    return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
  }

  /// A folder with a history, a key, and channels: a file, and a webhook at which nobody listens.
  private static func with(_ body: (_ folder: String, _ evidence: [String]) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in
      _ = try await LocalTier(root: "\(folder)/history", creating: true)
      let made = try await runCommand(
        "bash",
        [
          "-c",
          "set -e; openssl genpkey -algorithm ed25519 -out key; chmod 600 key; openssl pkey -in key -pubout -out key.pub",
        ], workingDirectory: folder)
      try #require(made.status == 0, "\(made.error)")
      try "http://127.0.0.1:1/hook".write(toFile: "\(folder)/hook", atomically: true, encoding: .utf8)
      chmod("\(folder)/hook", 0o600)
      let channels =
        #"{"webhooks": [{"name": "chat", "url": "file:\#(folder)/hook"}], "files": [{"name": "log", "path": "\#(folder)/told"}]}"#
      try channels.write(toFile: "\(folder)/channels.json", atomically: true, encoding: .utf8)
      try await body(
        folder,
        ["--history", "\(folder)/history", "--sign-key", "\(folder)/key", "--notify", "\(folder)/channels.json"])
    }
  }

  private static func reports(_ folder: String) async throws -> [ReportHistory.Entry] {
    try await ReportHistory(on: LocalTier(root: "\(folder)/history", creating: false)).entries()
  }

  private static func trail(_ folder: String) async throws -> [AuditRecord] {
    try await AuditTrail.read(on: LocalTier(root: "\(folder)/history", creating: false)).records
  }

  @Test(
    "A recovery that is told to end takes back what it did, and its report and audit line are kept",
    arguments: [SIGINT, SIGTERM])
  func cancelled(signal: Int32) async throws {
    try await Self.with { folder, evidence in
      let plan = """
        {"name": "long", "budget": "10m", "steps": [
          {"id": "first", "budget": "1m", "run": ["touch", "\(folder)/first"], "undo": ["touch", "\(folder)/undone"]},
          {"id": "second", "after": ["first"], "budget": "5m", "run": ["sh", "-c", "touch '\(folder)/second'; exec sleep 299"]},
          {"id": "third", "after": ["second"], "budget": "1m", "run": ["touch", "\(folder)/third"]}
        ]}
        """
      try plan.write(toFile: "\(folder)/plan.json", atomically: true, encoding: .utf8)
      let program = try RunningProgram(
        ["recover", "\(folder)/plan.json", "--execute", "--journal", "\(folder)/journal"] + evidence,
        of: ReceiverProcess.built("dr-plan"), in: folder)
      try await eventually("the second step to begin") { FileManager.default.fileExists(atPath: "\(folder)/second") }
      program.send(signal)
      let told = try await program.end(within: .seconds(60))
      #expect(told.status == 128 + signal && told.said.contains("report number 1 is in"), "\(told)")
      #expect(FileManager.default.fileExists(atPath: "\(folder)/undone"))

      let entries = try await Self.reports(folder)
      let report = try #require(entries.first?.report)
      #expect(entries.count == 1 && entries[0].isSigned && report.verdict == .failed, "\(report.sentence)")
      let steps = Dictionary(uniqueKeysWithValues: report.phases.flatMap(\.steps).map { ($0.id, $0.outcome) })
      #expect(steps == ["first": .takenBack, "second": .cancelled, "third": .notExecuted])
      #expect(report.rto.actual == nil)
      let lines = try await Self.trail(folder)
      #expect(
        lines.map(\.operation) == ["recover", "recover"] && lines.map(\.outcome) == [.begun, .cancelled], "\(lines)")
      #expect(lines.last?.object == "long, report 1", "\(lines)")
      let checked = try await Self.run("dr-verify", "report", "history/reports", "--key", "key.pub", in: folder)
      #expect(checked.status == 0, "\(checked)")
      let standing = try await Self.run("dr-plan", "history", "plan.json", "--history", "history", in: folder)
      #expect(standing.status == 1 && standing.output.contains("long: failing since"), "\(standing)")
      // It was begun, and is not over: nobody hears that it is.
      let told2 = try String(contentsOfFile: "\(folder)/told", encoding: .utf8)
      #expect(told2.contains("INCIDENT ALERT") && !told2.contains("RESOLVED"), "\(told2)")
    }
  }

  @Test("What an old journal says was done proves nothing anew, and a verification that was skipped proves nothing")
  func nothingDone() async throws {
    try await Self.with { folder, evidence in
      func plan(_ name: String, verifying condition: String, _ look: String) throws {
        let text = """
          {"name": "again", "budget": "10m", "steps": [
            {"id": "restore", "budget": "1m", "run": ["true"]},
            {"id": "verify", "after": ["restore"], "budget": "1m", "run": ["\(look)"], "onlyIf": ["\(condition)"]}
          ]}
          """
        try text.write(toFile: "\(folder)/\(name).json", atomically: true, encoding: .utf8)
      }
      func recover(_ name: String, _ journal: String) async throws -> ProgramAnswer {
        let words = ["recover", "\(folder)/\(name).json", "--execute", "--journal", "\(folder)/\(journal)"] + evidence
        let said = try await runCommand(ReceiverProcess.built("dr-plan"), words, workingDirectory: folder)
        return (said.status, String(decoding: said.output, as: UTF8.self), said.error)
      }
      func standing(_ name: String) async throws -> String {
        try await Self.run("dr-plan", "history", "\(name).json", "--history", "history", in: folder).output
      }
      try plan("good", verifying: "true", "true")
      try plan("bad", verifying: "true", "false")
      try plan("skipped", verifying: "false", "false")
      let good = try await recover("good", "first")
      #expect(good.status == 0, "\(good)")
      let first = try await standing("good")
      #expect(first.contains("again: verified"), "\(first)")
      let bad = try await recover("bad", "second")
      #expect(bad.status == 1, "\(bad)")
      let repeated = try await recover("good", "first")
      #expect(repeated.status == 0 && repeated.output.contains("it is report number 1"), "\(repeated)")
      #expect(try await Self.reports(folder).count == 2)
      let after = try await standing("good")
      #expect(after.contains("again: failing"), "\(after)")
      let skipped = try await recover("skipped", "third")
      #expect(skipped.output.contains("could not verify") && skipped.output.contains("skipped"), "\(skipped)")
      let unproven = try await standing("skipped")
      #expect(unproven.contains("again: unproven"), "\(unproven)")
    }
  }

  private static func rules(_ folder: String, go: String) -> String {
    """
    {
      "probes": [{"id": "there", "run": ["test", "-e", "\(folder)/data"], "every": "200ms", "failures": 2}],
      "incidents": [{"name": "lost", "severity": "P2", "component": "config/app", "when": ["there"], "plan": "plan.json", "go": "\(go)"}]
    }
    """
  }

  /// Watches, does away with what is watched, and gives what the watch said.
  private static func watch(
    _ folder: String, _ evidence: [String], go: String, until isOver: @escaping (String) -> Bool
  ) async throws -> String {
    let plan = """
      {"name": "lost", "budget": "10m", "steps": [
        {"id": "restore", "title": "The data comes back", "component": "config/app", "budget": "1m", "run": ["touch", "\(folder)/data"]},
        {"id": "verify", "after": ["restore"], "budget": "1m", "run": ["test", "-e", "\(folder)/data"]},
        {"id": "tell", "after": ["verify"], "budget": "10s", "notify": "status", "to": ["the owners"]}
      ]}
      """
    try plan.write(toFile: "\(folder)/plan.json", atomically: true, encoding: .utf8)
    try rules(folder, go: go).write(toFile: "\(folder)/rules.json", atomically: true, encoding: .utf8)
    try "x".write(toFile: "\(folder)/data", atomically: true, encoding: .utf8)
    let program = try RunningProgram(
      ["watch", "\(folder)/rules.json", "--incidents", "\(folder)/incidents", "--verbose"] + evidence,
      of: ReceiverProcess.built("dr-plan"), in: folder)
    try await eventually("it to see that all is well") { program.said.contains("there: ended with 0") }
    try FileManager.default.removeItem(atPath: "\(folder)/data")
    try await eventually("it to be over") { isOver(program.said) }
    program.send(SIGTERM)
    let told = try await program.end(within: .seconds(60))
    #expect(told.status == 0, "\(told)")
    return told.said
  }

  @Test("What a watch recovers by itself is kept as what a person recovers, with the time that it took to notice")
  func watched() async throws {
    try await Self.with { folder, evidence in
      let said = try await Self.watch(folder, evidence, go: "auto") { $0.contains("lost: passed after") }
      #expect(said.contains("INCIDENT P2 lost, noticed within"), "\(said)")
      let entries = try await Self.reports(folder)
      let report = try #require(entries.first?.report)
      #expect(entries.count == 1 && entries[0].isSigned && report.verdict == .passed, "\(report.sentence)")
      let detection = try #require(report.phases.first { $0.kind == .detection })
      // Two looks, 200 ms apart, after one that was well.
      let isMeasured =
        detection.notExecuted == nil && detection.duration.map { $0 > .seconds(0.2) && $0 < .seconds(30) } == true
      #expect(isMeasured, "\(detection)")
      #expect(detection.started == report.disaster)
      #expect(report.phases.contains { $0.kind == .decision && $0.notExecuted == nil })
      #expect(report.phases.first { $0.kind == .verification }?.steps.map(\.id) == ["verify"])
      let tell = report.phases.flatMap(\.steps).first { $0.id == "tell" }
      #expect(
        tell?.outcome == .done && tell?.evidence.contains("sent over 1 of 2 channels; chat") == true,
        "\(String(describing: tell))")
      let lines = try await Self.trail(folder)
      #expect(lines.map(\.outcome) == [.begun, .done] && lines.last?.object == "lost, report 1", "\(lines)")
      let told = try String(contentsOfFile: "\(folder)/told", encoding: .utf8)
      #expect(told.contains("To: the owners") && told.contains("INCIDENT RESOLVED"), "\(told)")
      let checked = try await Self.run("dr-verify", "report", "history/reports", "--key", "key.pub", in: folder)
      #expect(checked.status == 0, "\(checked)")
      let figures = try await Self.run("dr-plan", "history", "plan.json", "--history", "history", in: folder)
      #expect(figures.output.contains("met: Time to detect, at most:"), "\(figures)")
      #expect(figures.output.contains("lost: verified"), "\(figures)")
    }
  }

  @Test("The command of an incident that waits for a person keeps the same, with the time to detect")
  func waiting() async throws {
    try await Self.with { folder, evidence in
      let said = try await Self.watch(folder, evidence, go: "ask") {
        $0.contains("waiting for a go: ") && $0.contains(": sent")
      }
      // A person is told that the incident waits for one.
      let told = try String(contentsOfFile: "\(folder)/told", encoding: .utf8)
      #expect(told.contains("INCIDENT ALERT") && told.contains("it waits for a go: dr-plan recover"), "\(told)")
      #expect(!told.contains("RESOLVED"), "\(told)")
      #expect(try await Self.reports(folder).isEmpty)
      let command = try #require(said.firstMatch(of: /waiting for a go: dr-plan (.*)/)?.1)
      let ran = try await runCommand(
        "bash", ["-c", "'\(ReceiverProcess.built("dr-plan"))' \(command)"], workingDirectory: folder)
      #expect(ran.status == 0, "\(ran.error) \(String(decoding: ran.output, as: UTF8.self))")
      let report = try #require(try await Self.reports(folder).first?.report)
      let detection = try #require(report.phases.first { $0.kind == .detection })
      #expect(detection.notExecuted == nil && detection.duration != nil && report.verdict == .passed)
    }
  }

  @Test("A watch that is told to end while it recovers takes back what it did, and keeps the report")
  func watchEnded() async throws {
    try await Self.with { folder, evidence in
      let plan = """
        {"name": "lost", "budget": "10m", "steps": [
          {"id": "first", "budget": "1m", "run": ["touch", "\(folder)/first"], "undo": ["touch", "\(folder)/undone"]},
          {"id": "second", "after": ["first"], "budget": "5m", "run": ["sh", "-c", "touch '\(folder)/second'; exec sleep 298"]}
        ]}
        """
      try plan.write(toFile: "\(folder)/plan.json", atomically: true, encoding: .utf8)
      try Self.rules(folder, go: "auto").write(toFile: "\(folder)/rules.json", atomically: true, encoding: .utf8)
      let program = try RunningProgram(
        ["watch", "\(folder)/rules.json", "--incidents", "\(folder)/incidents"] + evidence,
        of: ReceiverProcess.built("dr-plan"), in: folder)
      try await eventually("the second step to begin") { FileManager.default.fileExists(atPath: "\(folder)/second") }
      program.send(SIGTERM)
      let told = try await program.end(within: .seconds(60))
      #expect(FileManager.default.fileExists(atPath: "\(folder)/undone"), "\(told)")
      let entries = try await Self.reports(folder)
      #expect(entries.count == 1 && entries[0].isSigned && entries[0].report?.verdict == .failed, "\(told)")
      #expect(try await Self.trail(folder).map(\.outcome) == [.begun, .cancelled])
    }
  }

  @Test(
    "A watch that is killed while it recovers goes on when it is begun again; beside another one it waits; what is well again is closed"
  )
  func watchKilled() async throws {
    try await Self.with { folder, evidence in
      let plan = """
        {"name": "lost", "budget": "10m", "steps": [
          {"id": "first", "budget": "1m", "run": ["sh", "-c", "echo first >> '\(folder)/log'"]},
          {"id": "second", "after": ["first"], "budget": "5m",
           "run": ["sh", "-c", "echo second >> '\(folder)/log'; test -e '\(folder)/go' || exec sleep 298; touch '\(folder)/data'"]},
          {"id": "verify", "after": ["second"], "budget": "1m", "run": ["test", "-e", "\(folder)/data"]}
        ]}
        """
      try plan.write(toFile: "\(folder)/plan.json", atomically: true, encoding: .utf8)
      try Self.rules(folder, go: "auto").write(toFile: "\(folder)/rules.json", atomically: true, encoding: .utf8)
      let arguments = ["watch", "\(folder)/rules.json", "--incidents", "\(folder)/incidents"] + evidence
      func begin() throws -> RunningProgram {
        try RunningProgram(arguments, of: ReceiverProcess.built("dr-plan"), in: folder)
      }
      func log() -> [Substring] {
        ((try? String(contentsOfFile: "\(folder)/log", encoding: .utf8)) ?? "").split(separator: "\n")
      }
      func files() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(folder)/incidents").filter { $0.hasSuffix(".json") }
      }
      let first = try begin()
      try await eventually("the second step to begin") { log() == ["first", "second"] }
      let beside = try begin()
      try await eventually("the other to wait") { beside.said.contains("waiting: another watch works in") }
      first.send(SIGKILL)
      _ = try await first.end(within: .seconds(60))
      try "".write(toFile: "\(folder)/go", atomically: true, encoding: .utf8)
      try await eventually("the other to go on with it") { beside.said.contains("lost: passed after") }
      #expect(beside.said.contains("INCIDENT lost is open since") && log() == ["first", "second", "second"])
      try await eventually("it to be well again") { beside.said.contains("everything that it is by is well again") }
      #expect(try files().count == 1, "\(beside.said)")
      beside.send(SIGTERM)
      _ = try await beside.end(within: .seconds(60))
      // Closed, so that the next disaster is another incident.
      try FileManager.default.removeItem(atPath: "\(folder)/data")
      let third = try begin()
      try await eventually("another incident") { third.said.contains("lost: passed after") }
      #expect(try files().count == 2 && !third.said.contains("is open since"), "\(third.said)")
      third.send(SIGTERM)
      _ = try await third.end(within: .seconds(60))
    }
  }
}
