import DRCore
import DRPlan
import DRTestSupport
import DRVerify
import Foundation
import Logging
import Testing

/// The evidence of a run: what it comes to, and how it is written.
struct RunReportTests {
  @Test("A report follows its schema, is the same bytes each time, and is read back as it was")
  func json() async throws {
    let partial = try SampleReport.changed { sample in
      sample.phases[.detection] = RunReport.Phase(.detection, notExecuted: "the disaster was announced")
      sample.phases[.cleanUp] = nil
      sample.components[0].rto.actual = .hours(2)
      sample.suppressions = [try .init(check: "recovery-time", reason: "the disk was slow that day: ticket 12")]
    }
    let bare = try RunReport(
      .verification, of: .init("nightly", digest: "00"), by: .current(program: "dr-verify"), from: SampleReport.at(0),
      to: SampleReport.at(1), phases: [], obstacle: "the tier is away")
    let unseen = try SampleReport.changed { sample in
      sample.findings[0].severity = .couldNotVerify
      sample.findings[1].severity = .notChecked
    }
    #expect(unseen.sentence.contains("1 could not be looked at"))
    let reports = [try SampleReport().make(), partial, bare, unseen]
    for report in reports {
      let json = try report.json()
      #expect(try report.json() == json)
      #expect(try RunReport(json: json).json() == json)
    }
    let full = reports[0]
    #expect(try RunReport(json: full.json()) == full)
    let verdicts = try await SchemaJudge.verdicts(on: reports.map { try $0.json() }, schema: RunReport.jsonSchema)
    #expect(verdicts == [nil, nil, nil, nil])
  }

  @Test("What the schema refuses, the reader refuses too; and the reader sees what no schema can")
  func refused() async throws {
    let json = String(decoding: try SampleReport().make().json(), as: UTF8.self)
    let edits: [(String, String)] = [
      (#""formatVersion" : "1.0""#, #""formatVersion" : "2.0""#), (#""kind" : "drill""#, #""kind" : "party""#),
      (#""phase" : "recovery""#, #""phase" : "lunch""#), (#""severity" : "warning""#, #""severity" : "bad""#),
      (#""outcome" : "done""#, #""outcome" : "fine""#), (#""digest" :"#, #""digset" :"#),
      (#""actualSeconds" : 470"#, #""actualSeconds" : -1"#), (#""isCritical" : true"#, #""isCritical" : "yes""#),
      (#""component" : "redis/cache""#, #""component" : "no component""#),
      (#""started" : "2026"#, #""started" : "tomorrow"#), (#""plan" : {"#, #""previous" : "xyz", "plan" : {"#),
      (#""plan" : {"#, #""number" : 0, "plan" : {"#), (#""plan" : {"#, #""number" : 2, "plan" : {"#),
      (#""suppressions" : ["#, #""suppressions" : [{"check": "x", "reason": " "}"#),
      (#""verdict" : "passed""#, #""verdict" : "great""#),
    ]
    let documents = edits.map { Data(json.replacing($0.0, with: $0.1).utf8) }
    let changed = documents.filter { $0 != Data(json.utf8) }
    #expect(changed.count == edits.count)
    let verdicts = try await SchemaJudge.verdicts(on: documents, schema: RunReport.jsonSchema)
    for (edit, (document, verdict)) in zip(edits, zip(documents, verdicts)) {
      #expect(verdict != nil, "the schema takes \(edit.1)")
      #expect(throws: DRError.self, "the reader takes \(edit.1)") { try RunReport(json: document) }
    }
    // A verdict that does not follow, and figures that were made better than they were.
    let failed = try SampleReport.changed { $0.rto.actual = .hours(3) }
    let text = String(decoding: try failed.json(), as: UTF8.self)
    #expect(failed.verdict == .failed)
    for (old, new) in [
      (#""verdict" : "failed""#, #""verdict" : "passed""#), (#""severity" : "failure""#, #""severity" : "passed""#),
    ] {
      let error = #expect(throws: DRError.self) { try RunReport(json: Data(text.replacing(old, with: new).utf8)) }
      #expect(error?.code == .malformedData)
    }
  }

  @Test("What failed fails it; what did not run never passes; a suppression needs a reason")
  func verdicts() throws {
    #expect(try SampleReport().make().verdict == .passed)
    let late = SampleReport.step("database", 70, 800, budget: .minutes(10))
    // Each closure apart from the macro: the compiler confuses those of one type within it.
    var cases: [(expected: Verdict, change: @Sendable (inout SampleReport) throws -> Void)] = [
      (.failed, { $0.phases[.recovery]?.steps[1] = late }),
      (.failed, { $0.phases[.recovery]?.steps[1].outcome = .failed }),
      (.failed, { $0.phases[.recovery]?.steps[1].outcome = .cancelled }),
      (.passed, { $0.phases[.recovery]?.steps[2].outcome = .skipped }),
      (.couldNotVerify, { $0.phases[.recovery]?.steps[2].outcome = .notExecuted }),
      (.failed, { $0.components[1].rpo.actual = .minutes(16) }),
      (.passed, { $0.components[1].rpo.actual = .minutes(15) }),
      (.couldNotVerify, { $0.components[1].rpo.actual = nil }),
      (.failed, { $0.rto.actual = .seconds(7200.001) }),
      (.couldNotVerify, { $0.rto.actual = nil }),
      (.couldNotVerify, { $0.obstacle = "no disk" }),
      (.failed, { $0.findings[0].severity = .failure }),
      (.couldNotVerify, { $0.findings[0].severity = .couldNotVerify }),
      (.passed, { $0.findings[0].severity = .notChecked }),
    ]
    for phase in [RunReport.Phase.Kind.recovery, .verification, .negativeControl] {
      cases.append((.couldNotVerify, { $0.phases[phase] = nil }))
      cases.append((.couldNotVerify, { $0.phases[phase] = .init(phase, notExecuted: "no time") }))
    }
    // A suppression of one check covers no other.
    cases.append(
      (
        .failed,
        { sample in
          sample.components[1].rpo.actual = .minutes(16)
          sample.suppressions = [
            try .init(check: "recovery-point", subject: "postgres/*", reason: "it is of another one")
          ]
        }
      ))
    for (index, (expected, change)) in cases.enumerated() {
      let verdict = try SampleReport.changed(change).verdict
      #expect(verdict == expected, "case \(index)")
    }
    let unannounced = try SampleReport.changed { $0.phases[.detection] = .init(.detection, notExecuted: "announced") }
    #expect(unannounced.verdict == .passed && unannounced.sentence.contains("not run: detection (announced)"))
    let nothing = try RunReport(
      .drill, of: .init("p", digest: ""), by: .current(program: "t"), from: SampleReport.at(0), to: SampleReport.at(0),
      phases: [])
    #expect(nothing.verdict == .notConfigured)

    let suppressed = try SampleReport.changed { sample in
      sample.components[1].rpo.actual = .minutes(16)
      sample.suppressions = [
        try .init(check: "recovery-point", subject: "redis/*", reason: "the cache may be colder"),
        try .init(check: "recovery-time", subject: "redis/other", reason: "this is never used"),
      ]
    }
    #expect(suppressed.verdict == .passed && suppressed.sentence.contains("1 failures do not count"))
    for text in [suppressed.html, suppressed.markdown] {
      #expect(text.contains("the cache may be colder") && text.contains("does not count"))
      #expect(text.contains("this is never used (nothing fell under it)"))
    }
    for reason in ["", " \n", "too short"] {
      #expect(throws: DRError.self) {
        try SampleReport.changed { $0.suppressions = [try .init(check: "recovery-point", reason: reason)] }
      }
    }
  }

  @Test("A recovery's report comes from its run and its journal: what it did, what it did not, on which way")
  func recovery() async throws {
    let objective = Objective(rto: .seconds(3600), rpo: .seconds(900), priority: .high)
    func plan(budget: Span = .minutes(5)) throws -> RecoveryPlan {
      func action(_ seconds: Double, _ clock: RecoveryClock, fails: Bool = false) -> CustomAction {
        CustomAction("takes \(seconds)") {
          try await clock.sleep(.seconds(seconds))
          if fails { throw DRError(.sourceFailed, "it is broken") }
          return "did it"
        }
      }
      return try RecoveryPlan(
        "redis-failure", budget: .hours(1),
        steps: [
          .init("restore", "Redis from its snapshot", of: SampleReport.cache, budget: budget, action(100, clock)),
          .init(
            "probe", "Keys are there", of: SampleReport.cache, after: ["restore"], budget: budget, action(20, clock)),
          .init("notify", "Tell them", after: ["probe"], budget: budget, action(1, clock, fails: true)),
          .init("close", "Close the incident", after: ["notify"], budget: budget, action(1, clock)),
        ])
    }
    let clock = RecoveryClock.simulated(from: SampleReport.at(60))
    let logger = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })
    try await withTemporaryFolder { folder in
      for _ in 0..<2 {
        // Once as it ran, once as the journal has it.
        var run = RecoveryRun(try plan(), journal: RecoveryJournal(at: "\(folder)/journal"))
        run.clock = clock
        run.since = SampleReport.disaster
        let report = try RunReport(
          of: await run.run(logger: logger), by: .current(program: "dr-plan"), detected: SampleReport.at(30),
          phase: { $0.id == "probe" ? .verification : .recovery }, objectives: [SampleReport.cache: objective],
          recovered: [SampleReport.cache: RecoveryPoint(time: SampleReport.at(-2), position: "9")],
          lost: [SampleReport.cache: .seconds(2)])
        #expect(report.kind == .recovery && report.verdict == .failed, "\(report.sentence)")
        #expect(report.components.first?.rto == .init(.seconds(180), of: .hours(1)))
        #expect(report.components.first?.rpo == .init(.seconds(2), of: .minutes(15)))
        let steps = report.phases.flatMap(\.steps)
        #expect(Set(steps.filter(\.isCritical).map(\.id)).isSuperset(of: ["restore", "probe"]))
        let closing = steps.first { $0.id == "close" }
        #expect(closing?.outcome == .notExecuted)
        #expect(report.sentence.contains("Close the incident ('notify' was not done)"), "\(report.sentence)")
        let phases = Dictionary(uniqueKeysWithValues: report.phases.map { ($0.kind, $0) })
        #expect(phases[.detection]?.duration == .seconds(30) && phases[.decision]?.notExecuted != nil)
        #expect(try RunReport(json: report.json()) == report)
      }
      var parted = RecoveryRun(try plan(), journal: RecoveryJournal(at: "\(folder)/journal"))
      parted.clock = clock
      let part = RunReport.Step("restore-1", "Read it", from: SampleReport.at(60), to: SampleReport.at(70), .done)
      let phases = RunReport.phases(
        of: try await parted.run(logger: logger), decided: SampleReport.at(40),
        phase: { $0.id == "probe" ? .verification : .recovery }, parts: ["restore": [part]])
      #expect(phases.map(\.kind) == [.detection, .decision, .recovery, .verification])
      #expect(phases[2].steps.map(\.id).prefix(2) == ["restore", "restore-1"])
      #expect(phases[0].notExecuted != nil && phases[1].notExecuted != nil)
      var dry = RecoveryRun(try plan())
      dry.clock = clock
      dry.isDryRun = true
      let report = try RunReport(of: await dry.run(logger: logger), by: .current(program: "dr-plan"))
      #expect(report.verdict == .couldNotVerify && report.sentence.contains("it was a dry run"))
    }
    let (first, changed) = (try plan(), try plan(budget: .minutes(6)))
    #expect(first.fingerprint == (try plan()).fingerprint && first.fingerprint != changed.fingerprint)
  }

  @Test("Nothing in a title is markup, in HTML or Markdown, and nothing is fetched from anywhere")
  func hostile() async throws {
    let evil =
      "</title><script>alert(1)</script>\"><img src=x onerror='x'> | a` **b** [c](http://d) \u{202E}txt.exe\n# head"
    let report = try SampleReport.changed { sample in
      sample.plan = .init(evil, digest: evil)
      sample.findings.append(Finding(evil, .failure, subject: evil, evidence: evil, advice: evil))
      sample.suppressions = [try .init(check: evil.replacing("*", with: "_"), subject: evil, reason: evil)]
      sample.phases[.recovery]?.steps[0].title = evil
      sample.phases[.recovery]?.steps[0].evidence = evil
      sample.phases[.detection] = .init(.detection, notExecuted: evil)
      sample.obstacle = evil
    }
    let plain = try SampleReport().make()
    // As a browser's parser sees it: the same kinds of tags and attributes as without.
    let script = """
      import sys, json
      from html.parser import HTMLParser
      class Seen(HTMLParser):
          def __init__(self):
              super().__init__(); self.tags = set()
          def handle_starttag(self, tag, attributes):
              self.tags |= {tag + "." + name for name, _ in attributes} | {tag}
      seen = []
      for page in json.load(sys.stdin):
          parser = Seen(); parser.feed(page); parser.close(); seen.append(sorted(parser.tags))
      json.dump(seen, sys.stdout)
      """
    let input = try JSONEncoder().encode([report.html, plain.html])
    let result = try await runCommand("python3", ["-c", script], input: Array(input))
    try #require(result.status == 0, "\(result.error)")
    let seen = try JSONDecoder().decode([[String]].self, from: Data(result.output)).map { Set($0) }
    #expect(seen[0].subtracting(seen[1]).subtracting(["ul", "li", "br", "span", "small"]).isEmpty, "\(seen)")
    for page in [report.html, plain.html] {
      #expect(!page.contains("<script") && !page.contains("<img") && !page.contains("\u{202E}"))
      for fetched in ["src=", "href=", "url(", "@import", "<link", "<iframe"] {
        #expect(!page.replacing("&lt;img src=x", with: "").contains(fetched), "\(fetched)")
      }
    }
    let lines = report.markdown.split(separator: "\n")
    #expect(
      lines.filter { $0.hasPrefix("#") }.count == plain.markdown.split(separator: "\n").filter { $0.hasPrefix("#") }
        .count + 2)
    #expect(!report.markdown.contains("<script") && !report.markdown.contains("[c](http"))
    // A cell stays one cell.
    let evilRow = try #require(lines.first { $0.contains("critical path") && $0.contains("alert") })
    #expect(evilRow.replacing("\\|", with: "").count { $0 == "|" } == 6)
  }
}
