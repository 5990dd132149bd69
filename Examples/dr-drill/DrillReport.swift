import DRCore
import DRVerify
import ExampleSupport
import Foundation

/// What the drill measured and saw.
struct DrillReport: Sendable {
  struct Check: Sendable {
    /// The kind of the system, for example `postgres`.
    var system: String
    var name: String
    var passed: Bool
    var detail: String
  }

  /// What a phase is for.
  enum Stage: String, Sendable, CaseIterable {
    case before, recovery, verification, control
  }

  struct Phase: Sendable {
    var stage: Stage
    var started: Date
    /// The kind of the system; nil for the platform.
    var system: String?
    var name: String
    var duration: Duration
    /// Whether it is a part of the recovery time.
    var counts: Bool
  }

  var begun = Date()
  var ended = Date()
  /// When the servers were destroyed, and the moment to which they were brought back.
  var disaster: Date?
  var target: Date?
  /// Kinds, in the order in which they were brought back.
  var systems: [String] = []
  /// By kind: from the disaster to the first right answer, and what was lost at the latest.
  var recoveryTimes: [String: Duration] = [:]
  var losses: [String: Duration] = [:]
  var phases: [Phase] = []
  var checks: [Check] = []
  /// Lines to print after the verdict.
  var notes: [String] = []

  var verdict: Verdict { checks.isEmpty ? .couldNotVerify : checks.allSatisfy(\.passed) ? .passed : .failed }

  func print() {
    Swift.print("\nPhases (* counts towards the recovery time)")
    for phase in phases {
      let name = pad(phase.system ?? "", 10) + pad(phase.name, 46)
      Swift.print("  \(phase.counts ? "*" : " ") \(name)\(Format.duration(phase.duration))")
    }
    Swift.print("\nChecks")
    for check in checks {
      Swift.print("  \(check.passed ? "ok    " : "FAILED") \(pad(check.system, 10))\(check.name): \(check.detail)")
    }
    let failed = checks.filter { !$0.passed }.count
    Swift.print(
      "\nVerdict: \(verdict.rawValue)"
        + (failed > 0 ? " (\(failed) of \(checks.count) checks)" : ", \(checks.count) checks"))
    for note in notes { Swift.print(note) }
  }

  private func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
  }
}
