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
      --measured a forecast of the recovery time. --textfile writes the same for node_exporter's textfile collector. \
      \(ProgramExit.codes(wrong: "a promise would not be kept now, or a job fails", failed: "something could not be looked at"))
      """)

  @Option(help: "The platform's file.", completion: .file())
  var platform: String

  @Option(help: "What restores were measured to take, by component: as dr-plan check takes it.", completion: .file())
  var measured: String?

  @Option(help: "How old the newest verified recovery point may be: 48h.")
  var verifiedWithin = "48h"

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
    var findings: [Finding]
    var unreachable: [String]
  }

  func run() async throws {
    try await reporting {
      let platform = try Platform(file: platform)
      let within = try usage { try Span(verifiedWithin) }
      let facts = try measured.map { try MeasuredRestores.read($0) } ?? [:]
      let status = await PlatformStatus.of(platform, measured: facts, verifiedWithin: within, at: Date())
      if let textfile {
        var text = PrometheusText()
        for standing in status.standings { standing.add(to: &text, at: status.moment) }
        status.book?.add(to: &text)
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
      at: Timestamp.format(status.moment), plan: platform.plan.name, components: rows, findings: status.findings,
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
    let findings = status.findings.filter { $0.severity != .passed }.map { "\($0)" }
    let unreachable = status.unreachable.map { "could not be looked at: \($0)" }
    return (lines + findings + unreachable).joined(separator: "\n")
  }
}

extension Span {
  /// To the second.
  fileprivate var whole: Span { .seconds(seconds.rounded()) }
}
