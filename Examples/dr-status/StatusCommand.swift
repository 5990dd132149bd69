import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport

/// Says where a platform stands.
@main
struct StatusCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-status",
    abstract: "Says what would be lost if disaster struck now, what was verified, and how long a recovery would take.",
    discussion: """
      For each component of the platform: the last durable recovery point, the last verified one, their age against what is promised; with \
      --measured a forecast of the recovery time. For each recovery plan that the platform's file names (recoveryPlans), and each whose reports its \
      repository keeps: never drilled, failing, unproven, void (changed since it passed), stale, or verified. --textfile writes the same for node_exporter's textfile collector. \
      \(ProgramExit.codes(wrong: "a promise would not be kept now, or a job fails", failed: "something could not be looked at"))
      """)

  @Option(help: "The platform's file.", completion: .file())
  var platform: String

  @Option(help: "What restores were measured to take, by component: as dr-plan check takes it.", completion: .file())
  var measured: String?

  @Option(help: "How old the newest verified recovery point may be: 48h.")
  var verifiedWithin = "48h"

  @Option(help: "For how long a drill or a recovery that passed counts: 35d.")
  var drilledWithin = "35d"

  @Option(help: "Also write the figures there, in Prometheus' text format.", completion: .file())
  var textfile: String?

  @Flag(help: "As JSON.")
  var json = false

  private struct Document: Encodable {
    struct Row: Encodable {
      var component: String
      var durable, verified: String?
      var exposureSeconds, verifiedAgeSeconds, forecastSeconds: Double?
      var promisedLossSeconds, promisedTimeSeconds: Double
      var forecastSecondsByTier: [String: Double]
    }

    var at: String
    var plan: String
    var components: [Row]
    /// `never drilled`, `failing`, `unproven`, `void`, `stale`, `verified`, by the plan's name.
    var recoveryPlans: [String: String]
    var findings: [Finding]
    var unreachable: [String]
  }

  func run() async throws {
    try await reporting {
      let platform = try Platform(file: platform)
      let (within, drilled) = try usage { (try Span(verifiedWithin), try Span(drilledWithin)) }
      let facts = try measured.map { try MeasuredRestores.read($0) } ?? [:]
      let status = await PlatformStatus.of(
        platform, measured: facts, verifiedWithin: within, drilledWithin: drilled, at: Date())
      if let textfile {
        var text = PrometheusText()
        for standing in status.standings { standing.add(to: &text, at: status.moment) }
        status.book?.add(to: &text)
        for plan in status.plans {
          text.gauge(
            "dr_plan_verified", "Whether the recovery plan passed as it is, and not too long ago.",
            [("plan", plan.name)], plan.standing.isVerified ? 1 : 0)
        }
        text.gauge(
          "dr_status_unreachable", "How much could not be looked at: what is missing here may be lost.", [],
          Double(status.unreachable.count))
        text.gauge(
          "dr_status_timestamp_seconds", "When this was written.", [], status.moment.timeIntervalSince1970)
        try text.write(to: textfile)
      }
      print(json ? try document(status, platform) : table(status))
      if !status.unreachable.isEmpty { throw ExitCode(2) }
      if status.findings.contains(where: { $0.severity == .failure }) { throw ExitCode(1) }
    }
  }

  private func document(_ status: PlatformStatus, _ platform: Platform) throws -> String {
    let rows = status.standings.map { standing in
      Document.Row(
        component: "\(standing.component)", durable: standing.durable.map { Timestamp.format($0) },
        verified: standing.verified.map { Timestamp.format($0) },
        exposureSeconds: standing.exposure(at: status.moment)?.seconds,
        verifiedAgeSeconds: standing.verifiedAge(at: status.moment)?.seconds,
        forecastSeconds: standing.forecast?.seconds, promisedLossSeconds: standing.rpo,
        promisedTimeSeconds: standing.rto, forecastSecondsByTier: standing.forecasts.mapValues(\.seconds))
    }
    let document = Document(
      at: Timestamp.format(status.moment), plan: platform.plan.name, components: rows,
      recoveryPlans: Dictionary(status.plans.map { ($0.name, $0.standing.name) }) { first, _ in first },
      findings: status.findings,
      unreachable: status.unreachable)
    return try JSONOutput.text(document)
  }

  private func table(_ status: PlatformStatus) -> String {
    func short(_ date: Date?) -> String { date.map { "\(Timestamp.format($0).prefix(19))Z" } ?? "never" }
    var cells = [["component", "durable to", "lost now", "promised", "verified to", "recovery", "promised"]]
    cells += status.standings.map { standing in
      [
        "\(standing.component)", short(standing.durable),
        standing.exposure(at: status.moment).map { "\($0.whole)" } ?? "all",
        "\(Span.seconds(standing.rpo))", short(standing.verified),
        standing.forecast.map { "\($0.whole)" } ?? "not known",
        "\(Span.seconds(standing.rto))",
      ]
    }
    let widths = cells[0].indices.map { column in cells.map { $0[column].count }.max() ?? 0 }
    let lines = cells.map { row in
      zip(row, widths).map { $0.padding(toLength: $1, withPad: " ", startingAt: 0) }.joined(separator: "  ")
    }
    let plans = status.plans.map { "\($0.name): \($0.standing)" }
    let findings = status.findings.filter { $0.severity != .passed && $0.check != "plan-standing" }.map { "\($0)" }
    let unreachable = status.unreachable.map { "could not be looked at: \($0)" }
    return (lines + plans + findings + unreachable).joined(separator: "\n")
  }
}

extension Span {
  /// To the second.
  fileprivate var whole: Span { .seconds(seconds.rounded()) }
}
