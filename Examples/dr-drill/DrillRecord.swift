import DRCore
import DRPlan
import Foundation

/// What one step of a drill measured and saw. It is durable before the journal says that the step is done, so that a drill that is
/// resumed has it.
struct DrillRecord: Codable, Sendable {
  struct Check: Codable, Sendable {
    /// The kind of the system, for example `postgres`, or `platform`.
    var system: String
    var name: String
    var passed: Bool
    var detail: String
  }

  struct Phase: Codable, Sendable {
    var started: Date
    /// The kind of the system; nil for the platform.
    var system: String?
    var name: String
    var duration: Duration
    /// Whether it is a part of the recovery time.
    var counts: Bool
  }

  var phases: [Phase] = []
  var checks: [Check] = []
  /// The first right answer, by kind.
  var answered: [String: Date] = [:]
  /// What was lost at the latest, by kind.
  var losses: [String: Duration] = [:]
  /// Of servers, by kind.
  var versions: [String: String] = [:]
  /// What the disaster was noticed by.
  var incident: DetectionState.Opened?

  /// What it comes to, in a line.
  var summary: String {
    let failed = checks.filter { !$0.passed }
    guard let first = failed.first else {
      return checks.count == 1 ? "\(checks[0].name): \(checks[0].detail)" : "\(checks.count) checks passed"
    }
    return "\(failed.count) of \(checks.count) checks failed, the first: \(first.name): \(first.detail)"
  }
}

/// What a drill knows once its servers are gone: what a resumed one begins with.
struct DrillMemory: Codable, Sendable {
  /// One that went on with it.
  struct Resumption: Codable, Hashable, Sendable {
    /// The last that the killed one has written.
    var lastSeen: Date
    var at: Date
  }

  var options: DrillOptions
  var begun: Date
  /// The moment to which everything goes back.
  var target: Date
  /// From which the times to recover count.
  var disaster: Date
  /// Before the disaster.
  var record: DrillRecord
  /// The second tier, which is all that there is then.
  var copy: DrillReplica.Place?
  /// Of the encryption; nil: none.
  var recipients: [String]?
  var resumptions: [Resumption] = []
  /// When it had done all that it was to do.
  var ended: Date?
}
