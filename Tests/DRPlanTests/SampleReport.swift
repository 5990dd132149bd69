import DRCore
import DRPlan
import DRVerify
import Foundation

/// A drill of a whole platform, to be changed by tests.
struct SampleReport {
  static let disaster = Date(timeIntervalSince1970: 1_795_000_000)

  static func at(_ seconds: Double) -> Date { disaster.addingTimeInterval(seconds) }

  static let database = component("postgres/agent_orchestrator")
  static let cache = component("redis/cache")

  private static func component(_ text: String) -> Component {
    do { return try Component(parsing: text) } catch { preconditionFailure("\(error)") }
  }

  static func step(
    _ id: String, _ from: Double, _ to: Double, of component: Component? = nil, budget: Span? = .minutes(10),
    _ outcome: RunReport.Step.Outcome = .done, isCritical: Bool = false, title: String? = nil
  ) -> RunReport.Step {
    RunReport.Step(
      id, title ?? "Step \(id)", of: component, from: at(from), to: at(to), budget: budget, outcome,
      isCritical: isCritical, evidence: "seen \(id)")
  }

  var kind = RunReport.Kind.drill
  var plan = RunReport.Plan("platform", digest: String(repeating: "ab", count: 32))
  var started = SampleReport.at(-30)
  var ended = SampleReport.at(900)
  var title: String?
  var phases: [RunReport.Phase.Kind: RunReport.Phase] = [
    .detection: RunReport.Phase(.detection, from: at(0), to: at(42)),
    .decision: RunReport.Phase(.decision, from: at(42), to: at(60)),
    .recovery: RunReport.Phase(
      .recovery,
      steps: [
        step("certificates", 60, 70, budget: .minutes(1), isCritical: true),
        step("database", 70, 470, of: database, isCritical: true, title: "PostgreSQL to the moment"),
        step("cache", 70, 150, of: cache, title: "Redis to the moment"),
      ]),
    .verification: RunReport.Phase(.verification, steps: [step("probes", 470, 520, isCritical: true)]),
    .negativeControl: RunReport.Phase(.negativeControl, steps: [step("flipped-byte", 520, 560)]),
    .cleanUp: RunReport.Phase(.cleanUp, steps: [step("sandboxes", 560, 562)]),
  ]
  var components = [
    RunReport.Recovered(
      database, rto: .init(.seconds(470), of: .hours(1)), rpo: .init(.seconds(0.5), of: .hours(1)),
      at: RecoveryPoint(time: at(-1.5), position: "0/3000148", history: "1")),
    RunReport.Recovered(
      cache, rto: .init(.seconds(150), of: .minutes(30)), rpo: .init(.seconds(1), of: .minutes(15)),
      at: RecoveryPoint(time: at(-1.25), position: "81234")),
  ]
  var rto = RunReport.Measure(.seconds(520), of: .hours(2))
  var rpo = RunReport.Measure(.seconds(1), of: .hours(1))
  var findings = [
    Finding("row-counts", .passed, subject: "postgres/agent_orchestrator", evidence: "1,000 of 1,000"),
    Finding("collation-version", .warning, subject: "de-x-icu", evidence: "153.80 was 153.14", advice: "reindex"),
  ]
  var suppressions: [Suppression] = []
  var obstacle: String?

  func make() throws -> RunReport {
    try RunReport(
      kind, of: plan, by: Operator(name: "ada", host: "db1", program: "dr-drill", version: "0.1.0"), from: started,
      to: ended, disaster: Self.disaster, targetMoment: Self.at(-1.25),
      phases: RunReport.Phase.Kind.allCases.compactMap { phases[$0] }, components: components, rto: rto, rpo: rpo,
      findings: findings, suppressions: suppressions, versions: ["postgres": "15.14", "redis": "7.0.15"],
      obstacle: obstacle)
  }

  /// With some of it changed.
  static func changed(_ change: (inout SampleReport) throws -> Void) throws -> RunReport {
    var sample = SampleReport()
    try change(&sample)
    return try sample.make()
  }

  /// `check subject` of each failure.
  static func failures(_ findings: [Finding]) -> [String] {
    findings.filter { $0.severity == .failure }.map { "\($0.check) \($0.subject)" }
  }
}
