import DRCore
import DRVerify
import ExampleSupport
import Foundation

/// What the drill measured and saw.
struct DrillReport: Sendable {
  struct Check: Sendable {
    var name: String
    var passed: Bool
    var detail: String
  }

  struct Phase: Sendable {
    var name: String
    var duration: Duration
    /// Whether it is a part of the recovery time.
    var counts: Bool
  }

  var phases: [Phase] = []
  var checks: [Check] = []
  /// Lines to print after the verdict.
  var notes: [String] = []

  var verdict: Verdict { checks.isEmpty ? .couldNotVerify : checks.allSatisfy(\.passed) ? .passed : .failed }

  mutating func check(_ name: String, _ passed: Bool, _ detail: String) {
    checks.append(Check(name: name, passed: passed, detail: detail))
  }

  func print() {
    Swift.print("\nPhases (* counts towards the recovery time)")
    for phase in phases {
      Swift.print("  \(phase.counts ? "*" : " ") \(pad(phase.name, 46))\(Format.duration(phase.duration))")
    }
    Swift.print("\nChecks")
    for check in checks { Swift.print("  \(check.passed ? "ok    " : "FAILED") \(check.name): \(check.detail)") }
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
