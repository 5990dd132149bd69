import DRCore
import DRPlan
import Foundation
import NIOCore

/// The drill as evidence: a report that can be read, validated, signed and chained, beside the lines on the terminal.
enum DrillEvidence {
  /// - Parameters:
  ///   - folder: Where `drill-<time>.json`, `.html` and `.md` are written; with a key also the signature.
  ///   - key: A private Ed25519 key in PEM, whose file nobody else can read.
  /// - Returns: The files' path, without their endings.
  static func write(_ drill: DrillReport, _ command: DrillCommand, to folder: String, key: String?) throws -> String {
    let report = try report(of: drill, command)
    let name = "drill-\(Timestamp.compact(drill.begun))"
    let files = try ReportFiles(report, name: name, signedBy: try key.map { try ReportSigningKey(file: $0) })
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let stem = "\(folder)/\(name)"
    try files.report.write(to: URL(fileURLWithPath: "\(stem).json"), options: .atomic)
    for (ending, data) in files.renderings {
      try data.write(to: URL(fileURLWithPath: "\(stem).\(ending)"), options: .atomic)
    }
    if let envelope = files.envelope {
      try envelope.write(to: URL(fileURLWithPath: "\(stem).dsse.json"), options: .atomic)
    }
    return stem
  }

  private static func report(of drill: DrillReport, _ command: DrillCommand) throws -> RunReport {
    var phases: [RunReport.Phase] = [
      RunReport.Phase(.detection, notExecuted: "the drill strikes by itself, and knows when"),
      RunReport.Phase(.decision, notExecuted: "the drill goes on at once"),
    ]
    for stage in DrillReport.Stage.allCases {
      guard let kind = stage.phase else { continue }
      let measured = drill.phases.filter { $0.stage == stage }
      let steps = measured.enumerated().map { index, phase in
        RunReport.Step(
          "\(phase.system ?? "platform")-\(stage.rawValue)-\(index + 1)", phase.name,
          of: phase.system.flatMap { try? Component(parsing: "\($0)/drill") }, from: phase.started,
          to: phase.started.addingTimeInterval(phase.duration / .seconds(1)), .done, isCritical: phase.counts)
      }
      phases.append(
        steps.isEmpty
          ? RunReport.Phase(kind, notExecuted: "the drill did not get there") : RunReport.Phase(kind, steps: steps))
    }
    let components = try drill.systems.map { system in
      let kind = try Component.Kind(system)
      let promised = DrillTargets.of(kind)
      let component = try Component(kind, "drill")
      func span(_ duration: Duration?) -> Span? { duration.map { Span($0) } }
      return RunReport.Recovered(
        component,
        rto: RunReport.Measure(
          span(drill.recoveryTimes[system]), of: command.rtoTarget.map { .seconds($0) } ?? Span(promised.rto)),
        rpo: RunReport.Measure(
          span(drill.losses[system]), of: command.rpoTarget.map { .seconds($0) } ?? Span(promised.rpo)))
    }
    let findings = drill.checks.map { check in
      Finding(
        check.name.replacing(" ", with: "-"), check.passed ? .passed : .failure, subject: check.system,
        evidence: check.detail)
    }
    let all = drill.systems.allSatisfy { drill.recoveryTimes[$0] != nil }
    return try RunReport(
      .drill,
      of: RunReport.Plan(
        "dr-drill", digest: StreamDigest.hex(ByteBuffer(string: "\(command.systems) \(command.size) \(command.seed)"))),
      by: .current(program: "dr-drill"), from: drill.begun, to: max(drill.begun, drill.ended), disaster: drill.disaster,
      targetMoment: drill.target, phases: phases, components: components,
      rto: RunReport.Measure(all ? drill.recoveryTimes.values.max().map { Span($0) } : nil, of: .hours(2)),
      rpo: RunReport.Measure(drill.losses.values.max().map { Span($0) }, of: .hours(1)), findings: findings)
  }
}

extension DrillReport.Stage {
  /// Nil for what comes before the disaster.
  fileprivate var phase: RunReport.Phase.Kind? {
    switch self {
    case .before: nil
    case .recovery: .recovery
    case .verification: .verification
    case .control: .negativeControl
    }
  }
}
