import DRCore

public import struct Foundation.Date

/// What is known of an incident, from which everybody is told: what is not known is said to be so.
public struct Incident: Hashable, Sendable {
  public enum Severity: String, Hashable, Sendable, Codable {
    case critical = "P1"
    case high = "P2"
    case medium = "P3"
  }

  /// What failed: `PostgreSQL`.
  public var systems: [String]
  public var severity: Severity
  /// When it began, as far as is known; else when it was noticed.
  public var began: Date
  /// Users and services that are affected.
  public var impact: String?
  public var commander: String?
  /// What is being done now.
  public var action: String?
  public var actionsTaken: [String] = []
  /// When everything is expected to be back.
  public var expectedEnd: Date?
  public var nextUpdate: Date?
  public var resolved: Date?
  /// Of the incident, in a few words.
  public var summary: String?
  public var rootCause: String?
  /// When it will be talked through.
  public var review: Date?
  /// As customers know it.
  public var service: String?
  public var statusPage: String?
  /// What was done when, for the report afterwards.
  public var timeline: [Event] = []

  public struct Event: Hashable, Sendable {
    public var when: Date
    public var what: String

    public init(_ when: Date, _ what: String) {
      self.when = when
      self.what = what
    }
  }

  public init(_ systems: [String], severity: Severity, began: Date) {
    self.systems = systems
    self.severity = severity
    self.began = began
  }

  /// Takes over what a recovery has done so far: what was done, what is next, and how long the rest may take by its budgets.
  public mutating func follow(_ recovery: RecoveryReport, now: Date) {
    let plan = recovery.plan
    let done = plan.ordered.filter { [.done, .skipped].contains(recovery.entries[$0.id]?.outcome) }
    actionsTaken = done.map(\.title)
    let open = plan.ordered.filter { step in !done.contains { $0.id == step.id } }
    action = open.isEmpty ? nil : open.first?.title
    let rest = plan.criticalPath { step in
      done.contains { $0.id == step.id } ? 0 : step.budget.seconds
    }
    expectedEnd = open.isEmpty ? nil : now.addingTimeInterval(rest.length.seconds)
    timeline = recovery.entries.values.flatMap { entry in
      let title = plan.steps.first { $0.id == entry.step }?.title ?? entry.step
      return [Event(entry.started, "begun: \(title)")]
        + (entry.ended.map { [Event($0, "\(entry.outcome.rawValue): \(title): \(entry.evidence)")] } ?? [])
    }.sorted { ($0.when, $0.what) < ($1.when, $1.what) }
    guard recovery.verdict == .passed, !recovery.isDryRun else { return }
    resolved = recovery.ended
    summary = "\(plan.name): \(done.count) steps, \(recovery.elapsed.rounded) from the disaster to the end"
  }
}
