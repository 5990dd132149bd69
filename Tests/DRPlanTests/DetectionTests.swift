import DRCore
import DRPlan
import DRTestSupport
import Foundation
import Logging
import Testing

/// What is taken for a disaster, and how soon.
struct DetectionTests {
  private static let start = Date(timeIntervalSince1970: 1_800_000_000)

  private static func at(_ seconds: Double) -> Date { start.addingTimeInterval(seconds) }

  private static func rules(_ probes: String, _ incidents: String) throws -> DetectionRules {
    try DetectionRules(json: Data("{probes: [\(probes)], incidents: [\(incidents)]}".utf8))
  }

  @Test("So many failures in a row open an incident once; time to detect counts from when it was last well")
  func threshold() throws {
    let rules = try Self.rules(
      "{id: 'answers', tcp: '127.0.0.1:1', failures: 3}",
      "{name: 'redis-failure', component: 'redis/cache', when: ['answers'], plan: 'p.json5', severity: 'P2'}")
    var state = DetectionState(rules)
    var opened = state.enter("answers", .well("yes"), at: Self.at(0))
    #expect(opened.isEmpty)
    opened = state.enter("answers", .failed("no"), at: Self.at(10))
    opened += state.enter("answers", .well("yes"), at: Self.at(20))
    for second in [30.0, 40] { opened += state.enter("answers", .failed("no"), at: Self.at(second)) }
    #expect(opened.isEmpty)
    opened = state.enter("answers", .failed("refused"), at: Self.at(50))
    let incident = try #require(opened.first)
    #expect(incident.lastWell == Self.at(20) && incident.firstSeen == Self.at(30) && incident.opened == Self.at(50))
    #expect(incident.timeToDetect == .seconds(30) && incident.symptoms == ["answers": "refused"])
    #expect(incident.plan == "p.json5" && "\(incident.component.map { "\($0)" } ?? "")" == "redis/cache")
    opened = state.enter("answers", .failed("no"), at: Self.at(60))
    #expect(opened.isEmpty && state.open == ["redis-failure"])
    opened = state.enter("answers", .well("yes"), at: Self.at(70))
    #expect(opened.isEmpty && state.open.isEmpty)
  }

  @Test("A share is of what was counted since the last look: 50 % is allowed, 51 % is not, and nothing says nothing")
  func share() throws {
    let rules = try Self.rules(
      "{id: 'misses', share: ['x'], above: 0.5, failures: 1}", "{name: 'i', when: ['misses'], plan: 'p'}")
    var state = DetectionState(rules)
    func look(_ part: Int, _ whole: Int) -> Bool {
      !state.enter("misses", .said("misses \(part) \(whole)"), at: Self.start).isEmpty
    }
    let first = look(900, 1000)
    let half = look(950, 1100)
    let quiet = look(950, 1100)
    let over = look(1001, 1200)
    #expect(!first && !half && !quiet && over)
    // A server that was begun anew counts from nothing.
    let anew = look(0, 1)
    #expect(!anew)
  }

  @Test("A number above or below its limit, a counter that grows too fast, and what is no number, are failures")
  func numbers() throws {
    let rules = try Self.rules(
      """
      {id: 'lag', number: ['x'], above: 1000, failures: 1}, {id: 'consumers', number: ['x'], below: 1, failures: 1},
      {id: 'unroutable', growth: ['x'], above: 10, failures: 1}
      """,
      """
      {name: 'lag', when: ['lag'], plan: 'p'}, {name: 'consumers', when: ['consumers'], plan: 'p'},
      {name: 'unroutable', when: ['unroutable'], plan: 'p'}
      """)
    var state = DetectionState(rules)
    func opened(_ probe: String, _ said: String) -> [String] {
      state.enter(probe, .said(said), at: Self.start).map(\.incident)
    }
    let answers = [
      opened("lag", "1000"), opened("lag", "1001"), opened("consumers", "1"), opened("consumers", "0"),
      opened("unroutable", "5000"), opened("unroutable", "5010"), opened("unroutable", "5021"),
    ]
    #expect(answers == [[], ["lag"], [], ["consumers"], [], [], ["unroutable"]])
    var fresh = DetectionState(rules)
    let broken = fresh.enter("lag", .said("ERROR: relation does not exist"), at: Self.start)
    #expect(broken.first?.symptoms["lag"]?.contains("said no number") == true)
  }

  @Test("Several health checks: two of three make a node's failure, one does not")
  func quorum() throws {
    let rules = try Self.rules(
      ["a", "b", "c"].map { "{id: '\($0)', tcp: 'host:1', failures: 1}" }.joined(separator: ","),
      "{name: 'node-failure', when: ['a', 'b', 'c'], atLeast: 2, plan: 'p'}")
    var state = DetectionState(rules)
    let one = state.enter("a", .failed("no"), at: Self.at(0))
    let two = state.enter("c", .failed("no"), at: Self.at(5))
    #expect(one.isEmpty && two.map(\.incident) == ["node-failure"])
    #expect(two.first?.symptoms.keys.sorted() == ["a", "c"] && two.first?.began == Self.at(0))
    // Nobody ever saw it well: it may have begun long before.
    #expect(two.first?.timeToDetect == nil)
  }

  @Test(
    "Rules that cannot be meant are refused, and say where",
    arguments: [
      ("{id: 'a', tcp: 'host:1'}", "{name: 'i', when: ['b'], plan: 'p'}", "is by a probe 'b'"),
      ("{id: 'a', tcp: 'host'}", "{name: 'i', when: ['a'], plan: 'p'}", "write host:port"),
      ("{id: 'a', tcp: 'h:1', above: 1}", "{name: 'i', when: ['a'], plan: 'p'}", "nothing that is a number"),
      ("{id: 'a', number: ['x']}", "{name: 'i', when: ['a'], plan: 'p'}", "has no limit"),
      ("{id: 'a', number: ['x'], tcp: 'h:1', above: 1}", "{name: 'i', when: ['a'], plan: 'p'}", "looks at one thing"),
      ("{id: 'a', tcp: 'h:1'}", "{name: 'i', when: ['a'], atLeast: 2, plan: 'p'}", "asks for more probes"),
      (
        "{id: 'a', tcp: 'h:1'}, {id: 'b', tcp: 'h:1'}", "{name: 'i', when: ['a'], plan: 'p'}",
        "no incident is by the probe 'b'"
      ),
      ("{id: 'a', tpc: 'h:1'}", "{name: 'i', when: ['a'], plan: 'p'}", "the field 'tpc' is not known"),
    ])
  func refused(probes: String, incidents: String, why: String) throws {
    let error = #expect(throws: DRError.self) { try Self.rules(probes, incidents) }
    #expect(error?.message.contains(why) == true, "\(error?.message ?? "")")
  }

  @Test(
    "Rules that are made in code are those of the file, with any action as a probe, and are refused for the same reasons"
  )
  func inCode() throws {
    typealias Rules = DetectionRules
    let probes = ["a", "b"].map { Rules.Probe($0, failures: 1, CustomAction("look") { "well" }) }
    var state = DetectionState(
      try Rules(probes: probes, incidents: [Rules.Incident("i", when: ["a", "b"], atLeast: 2, plan: "p", go: .auto)]))
    let one = state.enter("a", .failed("no"), at: Self.at(0))
    let two = state.enter("b", .failed("no"), at: Self.at(1))
    #expect(one.isEmpty && two.map(\.incident) == ["i"] && two.first?.severity == "P1")
    let wrong: [(probes: [Rules.Probe], incidents: [Rules.Incident], why: String)] = [
      (probes, [Rules.Incident("i", when: ["a"], plan: "p")], "no incident is by the probe 'b'"),
      (probes, [Rules.Incident("i", when: ["a", "b", "c"], plan: "p")], "is by a probe 'c'"),
      (probes, [Rules.Incident("I", when: ["a", "b"], plan: "p")], "is no name of an incident"),
      (probes, [Rules.Incident("i", when: ["a", "b"], atLeast: 3, plan: "p")], "asks for more probes"),
      (probes + [probes[0]], [Rules.Incident("i", when: ["a", "b"], plan: "p")], "two probes are named 'a'"),
      (
        [Rules.Probe("a", failures: 0, CustomAction("look") { "well" })], [Rules.Incident("i", when: ["a"], plan: "p")],
        "out of range"
      ),
    ]
    for (probes, incidents, why) in wrong {
      let error = #expect(throws: DRError.self) { try Rules(probes: probes, incidents: incidents) }
      #expect(error?.message.contains(why) == true, "\(error?.message ?? "")")
    }
  }

  @Test("A detector looks by itself, each probe on its own interval, and a look that hangs is a failure")
  func detector() async throws {
    try await withTemporaryFolder { folder in
      let rules = try Self.rules(
        """
        {id: 'hangs', run: ['sleep', '600'], every: '100ms', patience: '200ms', failures: 2},
        {id: 'file', run: ['test', '-e', '\(folder)/there'], every: '50ms', failures: 2}
        """,
        "{name: 'hang', when: ['hangs'], plan: 'p'}, {name: 'gone', when: ['file'], plan: 'p'}")
      _ = FileManager.default.createFile(atPath: "\(folder)/there", contents: nil)
      let seen = MutableBox<[DetectionState.Opened]>([])
      let looks = MutableBox(0)
      let quiet = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })
      let detector = Detector(
        rules, logger: quiet,
        onLook: { probe, failed, _ in if probe == "file", !failed { looks.withLock { $0 += 1 } } },
        onIncident: { opened in seen.withLock { $0.append(opened) } })
      let running = Task { try await detector.run() }
      try await withTimeLimit(.seconds(60), "the looks") {
        while looks.value < 3 { try await Task.sleep(for: .milliseconds(20)) }
        try FileManager.default.removeItem(atPath: "\(folder)/there")
        while seen.value.count < 2 { try await Task.sleep(for: .milliseconds(20)) }
      }
      running.cancel()
      try await running.value
      let gone = try #require(seen.value.first { $0.incident == "gone" })
      let taken = try #require(gone.timeToDetect)
      #expect(gone.lastWell != nil && taken.seconds > 0 && taken.seconds < 60)
      #expect(Set(seen.value.map(\.incident)) == ["hang", "gone"] && seen.value.count == 2)
    }
  }
}
