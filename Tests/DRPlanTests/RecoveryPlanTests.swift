import DRCore
import DRPlan
import DRTestSupport
import Foundation
import Logging
import Testing

/// Recovery plans: what is refused, what runs when, and what a run that was killed does not repeat.
struct RecoveryPlanTests {
  private static let quiet = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })

  /// Notes what was done.
  private final class Record: Sendable {
    private let lines = MutableBox<[String]>([])
    var all: [String] { lines.value }
    func note(_ line: String) { lines.withLock { $0.append(line) } }

    func action(_ name: String, failing times: Int = 0, taking: Duration = .zero) -> CustomAction {
      let left = MutableBox(times)
      return CustomAction(name) { [self] in
        note("begin \(name)")
        try await Task.sleep(for: taking)
        let fails = left.withLock { left in
          defer { left -= 1 }
          return left > 0
        }
        if fails { throw DRError(.sourceFailed, "\(name) does not work yet") }
        note("end \(name)")
        return "\(name) is done"
      }
    }
  }

  private static func step(
    _ id: String, after: [String] = [], _ action: any RecoveryAction = CustomAction("x") { "" }, attempts: Int = 1,
    budget: Span = .minutes(1), priority: Objective.Priority = .high, onlyIf: (any RecoveryAction)? = nil,
    undo: (any RecoveryAction)? = nil
  ) -> RecoveryPlan.Step {
    RecoveryPlan.Step(
      id, id, after: after, priority: priority, budget: budget, attempts: attempts, pause: .seconds(0), action,
      onlyIf: onlyIf, undo: undo)
  }

  @Test("Circles, missing steps and names that are taken or not allowed are refused when a plan is made")
  func refused() throws {
    func message(_ steps: [RecoveryPlan.Step]) -> String {
      let error = #expect(throws: DRError.self) { try RecoveryPlan("p", budget: .hours(1), steps: steps) }
      return error?.message ?? ""
    }
    #expect(
      message([Self.step("a", after: ["b"]), Self.step("b", after: ["c"]), Self.step("c", after: ["a"])]).contains(
        "a needs b needs c needs a"))
    #expect(message([Self.step("a", after: ["a"])]).contains("a needs a"))
    #expect(message([Self.step("a", after: ["z"])]).contains("'a' needs 'z'"))
    #expect(message([Self.step("a"), Self.step("a")]).contains("two steps"))
    #expect(message([Self.step("A b")]).contains("cannot be the name"))
    #expect(message([Self.step("a", attempts: 0)]).contains("out of range"))
    #expect(message([]).contains("no steps"))
    // A long chain is no reason to run out of stack.
    let chain = (0..<20_000).map { Self.step("s\($0)", after: $0 == 0 ? [] : ["s\($0 - 1)"]) }
    _ = try RecoveryPlan("long", budget: .hours(1), steps: Array(chain.prefix(2000)))
    #expect(message(Array(chain.prefix(2000)) + [Self.step("x", after: ["x"])]).contains("x needs x"))
  }

  @Test(
    "Steps run as wide as they may, in the order of what they need and of their priority, and the critical path is named"
  )
  func order() async throws {
    let record = Record()
    let plan = try RecoveryPlan(
      "order", budget: .hours(1),
      steps: [
        Self.step("low", record.action("low"), priority: .medium),
        Self.step("first", record.action("first"), priority: .critical),
        Self.step("wide-1", after: ["first"], record.action("wide-1", taking: .seconds(1))),
        Self.step("wide-2", after: ["first"], record.action("wide-2", taking: .milliseconds(1500))),
        Self.step("last", after: ["wide-1", "wide-2"], record.action("last")),
      ])
    #expect(plan.ordered.map(\.id) == ["first", "wide-1", "wide-2", "last", "low"])
    var run = RecoveryRun(plan)
    run.width = 2
    let report = try await run.run(logger: Self.quiet)
    #expect(report.verdict == .passed && report.notExecuted.isEmpty)
    #expect(report.criticalPath == ["first", "wide-2", "last"])
    let lines = record.all
    func index(_ line: String) throws -> Int { try #require(lines.firstIndex(of: line), "\(line) in \(lines)") }
    let sideBySide = try index("begin wide-2") < index("end wide-1") && index("begin wide-1") < index("end wide-2")
    #expect(sideBySide, "\(lines)")
    let isLast = try index("begin last") > index("end wide-1") && index("begin last") > index("end wide-2")
    #expect(isLast)
    // One after the other, the order is that of the plan.
    let before = record.all.count
    run.width = 1
    _ = try await run.run(logger: Self.quiet)
    #expect(
      record.all.dropFirst(before).filter { $0.hasPrefix("begin") }.map { $0.dropFirst(6) }
        == plan.ordered.map { $0.id[...] })
    let longest = plan.criticalPath { $0.id == "low" ? 1000 : 1 }
    #expect(longest.steps == ["low"] && longest.length.seconds == 1000)
  }

  @Test("A step is tried again; one that fails for good keeps from being done only what needs it")
  func failing() async throws {
    let record = Record()
    let plan = try RecoveryPlan(
      "failing", budget: .hours(1),
      steps: [
        Self.step("twice", record.action("twice", failing: 1), attempts: 2),
        Self.step("never", record.action("never", failing: 9), attempts: 3),
        Self.step("behind", after: ["never"], record.action("behind")),
        Self.step("beside", after: ["twice"], record.action("beside")),
      ])
    let report = try await RecoveryRun(plan).run(logger: Self.quiet)
    #expect(report.verdict == .failed)
    #expect(report.entries["twice"]?.outcome == .done && report.entries["twice"]?.attempts == 2)
    #expect(report.entries["never"]?.outcome == .failed && report.entries["never"]?.attempts == 3)
    #expect(report.entries["never"]?.evidence.contains("never does not work yet") == true)
    #expect(report.entries["beside"]?.outcome == .done && report.entries["behind"] == nil)
    #expect(report.notExecuted.map(\.step) == ["behind"] && report.notExecuted[0].because.contains("never"))
    #expect(!record.all.contains("begin behind"))
    #expect(report.findings.contains { $0.subject == "behind" && $0.evidence.contains("not executed") })
  }

  @Test("A budget that is exceeded fails the run, though everything was done; a limit ends an attempt")
  func budgets() async throws {
    let record = Record()
    var slow = Self.step("slow", record.action("slow", taking: .milliseconds(300)), budget: .seconds(0.1))
    slow.limit = .seconds(30)
    let late = try await RecoveryRun(RecoveryPlan("late", budget: .hours(1), steps: [slow])).run(logger: Self.quiet)
    #expect(late.verdict == .failed && late.entries["slow"]?.outcome == .done)
    #expect(late.findings.contains { $0.check == "step-budget" && $0.severity == .failure })
    var hanging = Self.step("hangs", record.action("hangs", taking: .seconds(600)), budget: .seconds(600))
    hanging.limit = .seconds(0.2)
    let ended = try await RecoveryRun(RecoveryPlan("hangs", budget: .hours(1), steps: [hanging])).run(
      logger: Self.quiet)
    #expect(ended.entries["hangs"]?.outcome == .failed)
    // From the disaster on, not from the run.
    var run = RecoveryRun(try RecoveryPlan("since", budget: .minutes(5), steps: [Self.step("a")]))
    run.since = Date(timeIntervalSinceNow: -3600)
    let report = try await run.run(logger: Self.quiet)
    #expect(report.verdict == .failed && report.elapsed >= .hours(1))
  }

  @Test("A condition that says no skips a step, and what needs it goes on; a dry run does nothing and proves nothing")
  func conditions() async throws {
    let record = Record()
    let no = CustomAction("is it broken?") { throw DRError(.sourceFailed, "it is whole") }
    let plan = try RecoveryPlan(
      "conditions", budget: .hours(1),
      steps: [
        Self.step("mend", record.action("mend"), onlyIf: no),
        Self.step("check", after: ["mend"], record.action("check")),
      ])
    var dry = RecoveryRun(plan)
    dry.isDryRun = true
    let planned = try await dry.run(logger: Self.quiet)
    #expect(record.all.isEmpty && planned.verdict == .couldNotVerify)
    #expect(planned.entries.values.allSatisfy { $0.outcome == .planned })
    let report = try await RecoveryRun(plan).run(logger: Self.quiet)
    #expect(report.entries["mend"]?.outcome == .skipped && report.entries["check"]?.outcome == .done)
    #expect(record.all == ["begin check", "end check"] && report.verdict == .passed)
  }

  @Test("A health check that did not come true in time says what it saw last, without what the address holds")
  func lastSeen() async throws {
    try await HTTPListener.with(.answer(.serviceUnavailable)) { listener in
      let url = "http://127.0.0.1:\(listener.port)/health?key=hunter2"
      var step = Self.step("wait", HealthCheck(.http(url: url, status: 200)))
      step.limit = .seconds(3)
      let report = try await RecoveryRun(RecoveryPlan("late", budget: .hours(1), steps: [step])).run(logger: Self.quiet)
      let evidence = report.entries["wait"]?.evidence ?? ""
      #expect(report.verdict == .failed && evidence.contains("took longer than 3.0 seconds"), "\(evidence)")
      #expect(evidence.contains("/health answers 503") && !evidence.contains("hunter2"), "\(evidence)")
      #expect(listener.requests.count > 1)
    }
  }

  @Test("Of a program that failed, the reason that it gives is what is said, and not the advice behind it")
  func reasons() async throws {
    for (script, reason) in [
      ("echo begun; echo 'error: [corrupt-data] a torn page' >&2; echo 'try a copy' >&2; exit 3", "a torn page"),
      ("echo 'failure log-complete: a hole'; echo; exit 3", "a hole"),
      ("echo no reason; echo at all; exit 3", "at all"),
    ] {
      let error = await #expect(throws: DRError.self) { _ = try await CommandAction(["sh", "-c", script]).perform() }
      #expect(error?.message.hasSuffix(reason) == true && error?.message.contains("ended with 3") == true, "\(script)")
    }
    #expect(try await CommandAction(["sh", "-c", "echo error: none; echo done"]).perform() == "done")
    // More than anybody reads, as a log that goes on for weeks.
    let much = "head -c 40000000 /dev/zero | tr '\\0' 'x' | fold; echo; echo 'the last line'"
    #expect(try await CommandAction(["sh", "-c", much]).perform() == "the last line")
    let failing = await #expect(throws: DRError.self) {
      _ = try await CommandAction(["sh", "-c", "{ \(much); } >&2; exit 3"]).perform()
    }
    #expect(failing?.message.hasSuffix("the last line") == true, "\(failing?.message.prefix(200) ?? "")")
  }

  @Test("A condition that cannot be asked is no answer: the step fails, and is not taken for one that is not needed")
  func unknownConditions() async throws {
    let record = Record()
    let conditions: [any RecoveryAction] = [
      CommandAction(["no-such-program"]), CommandAction(["/no/such/program"]), CommandAction(["sh", "-c", "nosuch"]),
      CommandAction(["sh", "-c", "kill -9 $$"]), CustomAction("?") { throw DRError(.timedOut, "no answer") },
    ]
    for condition in conditions {
      let step = Self.step("mend", record.action("mend"), onlyIf: condition)
      let report = try await RecoveryRun(RecoveryPlan("unknown", budget: .hours(1), steps: [step])).run(
        logger: Self.quiet)
      #expect(report.entries["mend"]?.outcome == .failed && report.verdict == .failed, "\(condition.summary)")
    }
    #expect(record.all.isEmpty)
  }

  @Test("Cancelled, what was done is taken back, the last first, and what ran is cancelled")
  func cancelled() async throws {
    let record = Record()
    let plan = try RecoveryPlan(
      "cancelled", budget: .hours(1),
      steps: [
        Self.step("a", record.action("a"), undo: record.action("undo a")),
        Self.step("b", after: ["a"], record.action("b"), undo: record.action("undo b")),
        Self.step("c", after: ["b"], record.action("c", taking: .seconds(600)), undo: record.action("undo c")),
        Self.step("d", after: ["c"], record.action("d")),
      ])
    let running = Task { try await RecoveryRun(plan).run(logger: Self.quiet) }
    while !record.all.contains("begin c") { try await Task.sleep(for: .milliseconds(20)) }
    running.cancel()
    let report = try await running.value
    #expect(report.wasCancelled && report.verdict == .failed)
    #expect(report.entries["a"]?.outcome == .takenBack && report.entries["b"]?.outcome == .takenBack)
    #expect(report.entries["c"]?.outcome == .cancelled && report.notExecuted.map(\.step) == ["d"])
    #expect(record.all.suffix(4) == ["begin undo b", "end undo b", "begin undo a", "end undo a"])
  }

  @Test("What could not be taken back fails the report, and says that it stands")
  func notTakenBack() async throws {
    let record = Record()
    let undo = CustomAction("undo a") { throw DRError(.programFailed, "it cannot be undone") }
    let plan = try RecoveryPlan(
      "cancelled", budget: .hours(1),
      steps: [
        Self.step("a", record.action("a"), undo: undo),
        Self.step("b", after: ["a"], record.action("b", taking: .seconds(600))),
      ])
    let running = Task { try await RecoveryRun(plan).run(logger: Self.quiet) }
    while !record.all.contains("begin b") { try await Task.sleep(for: .milliseconds(20)) }
    running.cancel()
    let report = try RunReport(of: try await running.value, by: .current(program: "tests"))
    let finding = report.failures.first { $0.check == "step-taken-back" }
    #expect(finding?.subject == "a" && finding?.evidence.contains("it cannot be undone") == true, "\(report.failures)")
  }

  @Test("A plan in a file is the same whatever its variables are, and another once it is changed")
  func writtenPlan() throws {
    func text(_ budget: String, _ comment: String = "") -> Data {
      Data(
        """
        {\(comment)
          "name": "v", "budget": "1h", "variables": {"moment": null},
          "steps": [{"id": "look", "verifies": true, "budget": "\(budget)", "run": ["echo", "${moment}"]},
                    {"id": "verify-not", "verifies": false, "budget": "1m", "run": ["echo"]}]
        }
        """.utf8)
    }
    func plan(_ json: Data, _ moment: String) throws -> RecoveryPlan {
      try RecoveryPlan(json: json, variables: ["moment": moment]) { _ in false }
    }
    let written = try RunReport.Plan(json: text("1m"))
    #expect(written.name == "v" && written.digest.count == 64)
    for moment in ["yesterday", "today"] { #expect(try plan(text("1m"), moment).fingerprint == written.digest) }
    #expect(try plan(text("1m", "// as agreed\n"), "today").fingerprint == written.digest)
    #expect(try RunReport.Plan(json: text("2m")).digest != written.digest)
    #expect(try plan(text("1m"), "today").steps.map(\.verifies) == [true, false])
    #expect(throws: DRError.self) { try RunReport.Plan(json: Data("{}".utf8)) }
  }

  @Test("What was taken back is done again by the next run of the journal, and so is what was done on top of it")
  func takenBackIsNotDone() async throws {
    try await withTemporaryFolder { folder in
      let record = Record()
      let path = "\(folder)/journal"
      func plan(_ last: any RecoveryAction) throws -> RecoveryPlan {
        try RecoveryPlan(
          "cancelled", budget: .hours(1),
          steps: [
            Self.step("a", record.action("a"), undo: record.action("undo a")),
            Self.step("b", after: ["a"], record.action("b")), Self.step("other", record.action("other")),
            Self.step("c", after: ["b", "other"], last),
          ])
      }
      let slow = try plan(record.action("c", taking: .seconds(600)))
      let running = Task { try await RecoveryRun(slow, journal: RecoveryJournal(at: path)).run(logger: Self.quiet) }
      while !record.all.contains("begin c") { try await Task.sleep(for: .milliseconds(20)) }
      running.cancel()
      #expect(try await running.value.entries["a"]?.outcome == .takenBack)
      let before = record.all.count
      let report = try await RecoveryRun(try plan(record.action("c")), journal: RecoveryJournal(at: path))
        .run(logger: Self.quiet)
      #expect(report.verdict == .passed)
      #expect(record.all.dropFirst(before) == ["begin a", "end a", "begin b", "end b", "begin c", "end c"])
      #expect(report.entries.values.filter(\.isFromJournal).map(\.step) == ["other"])

      // Killed while it was taken back: how far that came, nothing says.
      let file = try FileHandle(forUpdating: URL(filePath: path))
      try file.seekToEnd()
      try file.write(contentsOf: Data("{\"at\":\"2026-01-01T00:00:00Z\",\"takingBack\":\"a\"}\n".utf8))
      try file.close()
      let again = try await RecoveryRun(try plan(record.action("c")), journal: RecoveryJournal(at: path))
        .run(logger: Self.quiet)
      #expect(again.verdict == .passed && record.all.suffix(2) == ["begin c", "end c"])
      #expect(record.all.count { $0 == "begin a" } == 3)
    }
  }

  @Test("A run goes on from its journal: what is done is not repeated, what failed or was begun is done again")
  func journal() async throws {
    try await withTemporaryFolder { folder in
      let record = Record()
      let path = "\(folder)/journal"
      func plan(_ failing: Int, extra: Bool = false) throws -> RecoveryPlan {
        try RecoveryPlan(
          "journal", budget: .hours(9),
          steps: [
            Self.step("a", record.action("a")), Self.step("b", after: ["a"], record.action("b", failing: failing)),
            Self.step("c", after: ["b"], record.action("c")),
          ] + (extra ? [Self.step("d")] : []))
      }
      var first = RecoveryRun(try plan(1), journal: RecoveryJournal(at: path))
      first.since = Date(timeIntervalSinceNow: -7200)
      #expect(try await first.run(logger: Self.quiet).verdict == .failed)
      // A line that was cut by a crash counts for nothing.
      let file = try FileHandle(forUpdating: URL(filePath: path))
      try file.seekToEnd()
      try file.write(contentsOf: Data("{\"started\":\"c".utf8))
      try file.close()
      let report = try await RecoveryRun(try plan(0), journal: RecoveryJournal(at: path)).run(logger: Self.quiet)
      #expect(report.verdict == .passed && report.entries["a"]?.isFromJournal == true)
      #expect(record.all == ["begin a", "end a", "begin b", "begin b", "end b", "begin c", "end c"])
      #expect(report.elapsed >= .hours(2), "from the disaster that the first run was told")
      let done = try await RecoveryRun(try plan(0), journal: RecoveryJournal(at: path)).run(logger: Self.quiet)
      #expect(done.entries.values.allSatisfy(\.isFromJournal) && record.all.count == 7)

      let other = await #expect(throws: DRError.self) {
        _ = try await RecoveryRun(try plan(0, extra: true), journal: RecoveryJournal(at: path)).run(logger: Self.quiet)
      }
      #expect(other?.code == .invalidConfiguration && other?.message.contains("another plan") == true)
      let strange = "\(folder)/strange"
      try String(contentsOfFile: path, encoding: .utf8)
        .replacing("\"started\":\"c\"", with: "\"started\":\"q\"").write(
          toFile: strange, atomically: true, encoding: .utf8)
      let changed = await #expect(throws: DRError.self) {
        _ = try await RecoveryRun(try plan(0), journal: RecoveryJournal(at: strange)).run(logger: Self.quiet)
      }
      #expect(changed?.code == .malformedData)
      let text = "\(folder)/text"
      try "hello\n".write(toFile: text, atomically: true, encoding: .utf8)
      let none = await #expect(throws: DRError.self) {
        _ = try await RecoveryRun(try plan(0), journal: RecoveryJournal(at: text)).run(logger: Self.quiet)
      }
      #expect(none?.code == .malformedData)
      #expect(try String(contentsOfFile: text, encoding: .utf8) == "hello\n")
      let nowhere = await #expect(throws: DRError.self) {
        _ = try await RecoveryRun(try plan(0), journal: RecoveryJournal(at: "/nowhere/x")).run(logger: Self.quiet)
      }
      #expect(nowhere?.code == .notWritable)
    }
  }

  @Test("A disaster that is to come is refused: the time to recover would come out as nothing")
  func sinceToCome() async throws {
    let record = Record()
    var run = RecoveryRun(
      try RecoveryPlan("later", budget: .hours(1), steps: [Self.step("a", record.action("a"))]))
    run.since = Date(timeIntervalSinceNow: 3600)
    do {
      _ = try await run.run(logger: Self.quiet)
      Issue.record("it ran")
    } catch let error as DRError {
      #expect(error.code == .invalidConfiguration && record.all.isEmpty)
    }
  }

  @Test("Under a simulated clock, pauses take no time and are in the report")
  func simulated() async throws {
    let begin = ContinuousClock.now
    var step = Self.step("late", Record().action("late", failing: 50), attempts: 51, budget: .hours(9))
    step.pause = .minutes(10)
    var run = RecoveryRun(try RecoveryPlan("simulated", budget: .hours(9), steps: [step]))
    run.clock = .simulated(from: Date(timeIntervalSince1970: 0))
    let report = try await run.run(logger: Self.quiet)
    #expect(report.entries["late"]?.duration == .minutes(500) && report.verdict == .passed)
    #expect(begin.duration(to: .now) < .seconds(10))
  }
}
