import DRCore
import DRPlan
import Foundation

/// The drill as evidence: a report that can be read, validated, signed and chained, beside the lines on the terminal.
enum DrillEvidence {
  /// - Parameters:
  ///   - folder: Where `drill-<time>.json`, `.html` and `.md` are written; with a key also the signature.
  /// - Returns: The files' path, without their endings.
  static func write(_ report: RunReport, to folder: String, signedBy key: ReportSigningKey?) throws -> String {
    let name = "drill-\(Timestamp.compact(report.started))"
    let files = try ReportFiles(report, name: name, signedBy: key)
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

  /// - Throws: ``DRError`` with `notWritable`.
  static func prepare(_ folder: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw DRError(.notWritable, "the folder of the report cannot be made", object: folder, cause: error)
    }
    guard FileManager.default.isWritableFile(atPath: folder) else {
      throw DRError(.notWritable, "the folder of the report cannot be written", object: folder)
    }
  }

  static func report(of drill: DrillReport) throws -> RunReport {
    let (recovery, memory) = (drill.recovery, drill.memory)
    let critical = Set(recovery.criticalPath)
    let measured = recovery.plan.steps.filter {
      DrillPlan.phase(of: $0) != .detection && DrillPlan.phase(of: $0) != .decision
    }
    var phases = RunReport.phases(
      of: recovery, detected: drill.detected, decided: drill.decided, phase: DrillPlan.phase,
      parts: Dictionary(
        uniqueKeysWithValues: measured.map { ($0.id, drill.parts(of: $0, isCritical: critical.contains($0.id))) }))
    // The detector looks all the while; its step only asks what it saw.
    for index in phases.indices where [.detection, .decision].contains(phases[index].kind) {
      for step in phases[index].steps.indices where phases[index].steps[step].outcome == .done {
        phases[index].steps[step].started = phases[index].started
        phases[index].steps[step].ended = phases[index].ended
      }
    }
    if let cleanUp = drill.cleanUp { phases.append(RunReport.Phase(.cleanUp, steps: [cleanUp])) }
    let components = drill.systems.map { component in
      let objective = memory.options.objective(of: component.kind)
      return RunReport.Recovered(
        component, rto: RunReport.Measure(drill.recoveryTime(component), of: Span(objective.rto)),
        rpo: RunReport.Measure(drill.loss(component), of: Span(objective.rpo)))
    }
    let times = drill.systems.compactMap { drill.recoveryTime($0) }
    let losses = drill.systems.compactMap { drill.loss($0) }
    let isWhole = times.count == drill.systems.count && losses.count == times.count
    let findings = drill.checks.map { check in
      Finding(
        check.name.replacing(" ", with: "-"), check.passed ? .passed : .failure, subject: check.system,
        evidence: check.detail)
    }
    let resumed = memory.resumptions.map { Finding("resumed", .notice, subject: DrillPlan.name, evidence: $0.sentence) }
    return try RunReport(
      .drill, of: RunReport.Plan(recovery.plan.name, digest: recovery.plan.fingerprint),
      by: .current(program: "dr-drill"), from: memory.begun, to: max(memory.begun, drill.ended),
      disaster: memory.disaster, targetMoment: memory.target, phases: phases, components: components,
      rto: RunReport.Measure(isWhole ? times.max() : nil, of: Span(DrillTargets.platform.rto)),
      rpo: RunReport.Measure(isWhole ? losses.max() : nil, of: Span(DrillTargets.platform.rpo)),
      findings: findings + resumed, versions: drill.versions)
  }
}
