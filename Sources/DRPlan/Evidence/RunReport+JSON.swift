import DRCore
import DRVerify
public import Foundation

extension RunReport {
  /// The JSON Schema (draft 2020-12) of the format.
  public static var jsonSchema: Data { Data(PackageResources.run_report_schema_json) }

  /// Reads a report.
  ///
  /// - Throws: ``DRCore/DRError``: `unsupportedVersion` for a later major version; `malformedData` for anything that does not follow the
  ///   format, and for a verdict that does not follow from the rest of it.
  public init(json: Data, object: String? = nil) throws {
    struct Version: Decodable { var formatVersion: String }
    let stored: Stored
    do {
      let version = try JSONDecoder().decode(Version.self, from: json).formatVersion
      guard version.hasPrefix("1.") else {
        throw DRError(
          .unsupportedVersion, "the report has format \(version.prefix(20)), this library reads 1.x",
          advice: "use a later version of the library to read it", object: object)
      }
      stored = try JSONDecoder().decode(Stored.self, from: json)
      try self.init(stored: stored)
    } catch let error as DRError where error.code == .unsupportedVersion {
      throw error
    } catch {
      throw DRError(.malformedData, "this is no report", object: object, cause: error)
    }
    let implied = RunReport.implied(phases: phases, components: components, platform: (plan.name, rto, rpo))
    let missing = implied.first { finding in
      finding.severity == .failure
        && !findings.contains { ($0.check, $0.subject, $0.severity) == (finding.check, finding.subject, .failure) }
    }
    if let missing {
      throw DRError(
        .malformedData,
        "the report leaves out what follows from its own figures: \(missing.check) of \(missing.subject)",
        advice: "it was changed, or written by something else", object: object)
    }
    guard stored.verdict == verdict else {
      throw DRError(
        .malformedData,
        "the report says '\(stored.verdict.rawValue)', and what it holds comes to '\(verdict.rawValue)'",
        advice: "it was changed, or written by something else", object: object)
    }
  }

  /// Writes it: sorted keys and line breaks, the same bytes for the same report.
  ///
  /// - Throws: ``DRCore/DRError`` with `malformedData` for a number that JSON cannot hold.
  public func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    do {
      return try encoder.encode(stored) + Data("\n".utf8)
    } catch {
      throw DRError(.malformedData, "the report of \(plan.name) cannot be written as JSON", cause: error)
    }
  }
}

extension RunReport {
  /// As it is stored.
  struct Stored: Codable {
    struct Step: Codable {
      var id: String
      var title: String
      var component: Component?
      var started: Instant?
      var ended: Instant?
      var budgetSeconds: Seconds?
      var outcome: RunReport.Step.Outcome
      var isCritical: Bool
      var evidence: String
    }

    struct Phase: Codable {
      var phase: RunReport.Phase.Kind
      var started: Instant?
      var ended: Instant?
      var steps: [Step]
      var notExecuted: String?
    }

    struct Measure: Codable {
      var actualSeconds: Seconds?
      var targetSeconds: Seconds?
      var isExceeded: Bool
    }

    struct Point: Codable {
      var time: Instant
      var position: String
      var history: String?
      /// Negative: before the moment to which everything was to go back.
      var secondsFromTarget: Double?
    }

    struct Recovered: Codable {
      var component: Component
      var rto: Measure
      var rpo: Measure
      var point: Point?
    }

    struct Platform: Codable {
      var rto: Measure
      var rpo: Measure
    }

    struct Gap: Codable {
      var what: String
      var reason: String
    }

    var formatVersion: String
    var kind: Kind
    var plan: Plan
    var by: Operator
    var started: Instant
    var ended: Instant
    var disaster: Instant?
    var targetMoment: Instant?
    var phases: [Phase]
    var components: [Recovered]
    var platform: Platform
    var findings: [Finding]
    var suppressions: [Suppression]
    var versions: [String: String]
    var obstacle: String?
    var number: Int?
    var previous: String?
    var verdict: Verdict
    var sentence: String
    var notRun: [Gap]
  }

  private var stored: Stored {
    Stored(
      formatVersion: RunReport.formatVersion, kind: kind, plan: plan, by: by, started: Instant(at: started),
      ended: Instant(at: ended), disaster: Instant(disaster), targetMoment: Instant(targetMoment),
      phases: phases.map { phase in
        Stored.Phase(
          phase: phase.kind, started: Instant(phase.started), ended: Instant(phase.ended),
          steps: phase.steps.map { step in
            Stored.Step(
              id: step.id, title: step.title, component: step.component, started: Instant(step.started),
              ended: Instant(step.ended), budgetSeconds: Seconds(step.budget), outcome: step.outcome,
              isCritical: step.isCritical, evidence: step.evidence)
          }, notExecuted: phase.notExecuted)
      },
      components: components.map { component in
        Stored.Recovered(
          component: component.component, rto: Stored.Measure(component.rto), rpo: Stored.Measure(component.rpo),
          point: component.point.map { point in
            Stored.Point(
              time: Instant(at: point.time), position: point.position, history: point.history,
              secondsFromTarget: targetMoment.map { (point.time.timeIntervalSince($0) * 1e6).rounded() / 1e6 })
          })
      },
      platform: Stored.Platform(rto: Stored.Measure(rto), rpo: Stored.Measure(rpo)), findings: findings,
      suppressions: suppressions, versions: versions, obstacle: obstacle, number: number, previous: previous,
      verdict: verdict, sentence: sentence, notRun: notRun.map { Stored.Gap(what: $0.what, reason: $0.reason) })
  }
}

extension RunReport.Measure {
  init(_ stored: RunReport.Stored.Measure) { self.init(stored.actualSeconds?.span, of: stored.targetSeconds?.span) }
}

extension RunReport.Stored.Measure {
  init(_ measure: RunReport.Measure) {
    actualSeconds = Seconds(measure.actual)
    targetSeconds = Seconds(measure.target)
    isExceeded = measure.isExceeded
  }
}

extension RunReport.Phase {
  init(_ stored: RunReport.Stored.Phase) {
    self.init(
      stored.phase, from: stored.started?.date, to: stored.ended?.date,
      steps: stored.steps.map { step in
        RunReport.Step(
          step.id, step.title, of: step.component, from: step.started?.date, to: step.ended?.date,
          budget: step.budgetSeconds?.span, step.outcome, isCritical: step.isCritical, evidence: step.evidence)
      })
    notExecuted = stored.notExecuted
  }
}

extension RunReport.Recovered {
  init(_ stored: RunReport.Stored.Recovered) {
    self.init(
      stored.component, rto: .init(stored.rto), rpo: .init(stored.rpo),
      at: stored.point.map { RecoveryPoint(time: $0.time.date, position: $0.position, history: $0.history) })
  }
}
