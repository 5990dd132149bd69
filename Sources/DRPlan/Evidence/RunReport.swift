public import DRCore
public import DRVerify

public import struct Foundation.Date

/// What a drill, a recovery, a restore test or a verification did, and what it proves: the evidence.
///
/// It says what did not run as plainly as what did. Its verdict is never stated, but follows from what it holds: a step that failed, a finding
/// that is a failure and a target that was exceeded fail it; where something that proves the rest did not run, it could not verify.
public struct RunReport: Hashable, Sendable {
  /// The version of the format that this library writes, `major.minor`.
  public static let formatVersion = "1.0"

  public enum Kind: String, Hashable, Sendable, Codable, CaseIterable {
    case drill, recovery, verification
    case restoreTest = "restore test"

    /// What belongs to it: of these, what did not run is said.
    var phases: [Phase.Kind] {
      switch self {
      case .drill: Phase.Kind.allCases
      case .recovery: [.detection, .decision, .recovery, .verification]
      case .restoreTest: [.recovery, .verification, .cleanUp]
      case .verification: [.verification]
      }
    }

    /// That without which it proves nothing.
    var required: [Phase.Kind] {
      switch self {
      case .drill: [.recovery, .verification, .negativeControl]
      case .recovery: [.recovery, .verification]
      case .restoreTest: [.recovery, .verification]
      case .verification: [.verification]
      }
    }
  }

  /// The plan that was followed.
  public struct Plan: Hashable, Sendable, Codable {
    public var name: String
    /// Another plan, or this one after a change, has another: ``RecoveryPlan/fingerprint``, ``ProtectionPlan/fingerprint``.
    public var digest: String

    public init(_ name: String, digest: String) {
      self.name = name
      self.digest = digest
    }
  }

  /// One thing that was done, or should have been.
  public struct Step: Hashable, Sendable {
    public enum Outcome: String, Hashable, Sendable, Codable {
      case done, skipped, failed, cancelled
      case takenBack = "taken back"
      case notExecuted = "not executed"
    }

    public var id: String
    public var title: String
    public var component: Component?
    public var started: Date?
    public var ended: Date?
    /// How long it was to take at most.
    public var budget: Span?
    public var outcome: Outcome
    /// Whether it decided how long everything took.
    public var isCritical: Bool
    /// What was seen, or why it failed, was skipped or not executed.
    public var evidence: String

    public init(
      _ id: String, _ title: String, of component: Component? = nil, from started: Date? = nil,
      to ended: Date? = nil, budget: Span? = nil, _ outcome: Outcome, isCritical: Bool = false, evidence: String = ""
    ) {
      self.id = id
      self.title = title
      self.component = component
      self.started = started
      self.ended = ended
      self.budget = budget
      self.outcome = outcome
      self.isCritical = isCritical
      self.evidence = evidence
    }

    /// Nil for one that was not executed.
    public var duration: Span? {
      guard let started, let ended else { return nil }
      return .seconds(max(0, ended.timeIntervalSince(started)))
    }
  }

  public struct Phase: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable, Codable, CaseIterable {
      case detection, decision, recovery, verification
      case negativeControl = "negative control"
      case cleanUp = "clean-up"
    }

    public var kind: Kind
    public var started: Date?
    public var ended: Date?
    public var steps: [Step]
    /// Why it did not run, if it did not.
    public var notExecuted: String?

    /// A phase that ran: from the start of its first step to the end of its last, unless said.
    public init(_ kind: Kind, from started: Date? = nil, to ended: Date? = nil, steps: [Step] = []) {
      self.kind = kind
      self.started = started ?? steps.compactMap(\.started).min()
      self.ended = ended ?? steps.compactMap(\.ended).max()
      self.steps = steps
    }

    /// A phase that did not run.
    public init(_ kind: Kind, notExecuted reason: String) {
      self.kind = kind
      steps = []
      notExecuted = reason
    }

    public var duration: Span? {
      guard let started, let ended else { return nil }
      return .seconds(max(0, ended.timeIntervalSince(started)))
    }
  }

  /// What was promised, and what was measured.
  public struct Measure: Hashable, Sendable {
    public var target: Span?
    public var actual: Span?

    public init(_ actual: Span? = nil, of target: Span? = nil) {
      self.actual = actual
      self.target = target
    }

    public var isExceeded: Bool {
      guard let target, let actual else { return false }
      return actual > target
    }

    /// Promised, and not measured.
    public var isOpen: Bool { target != nil && actual == nil }
  }

  /// What became of one component.
  public struct Recovered: Hashable, Sendable {
    public var component: Component
    /// From the disaster to its first right answer.
    public var rto: Measure
    /// From the newest position that could be recovered to the disaster.
    public var rpo: Measure
    /// Where it is now.
    public var point: RecoveryPoint?

    public init(
      _ component: Component, rto: Measure = Measure(), rpo: Measure = Measure(), at point: RecoveryPoint? = nil
    ) {
      self.component = component
      self.rto = rto
      self.rpo = rpo
      self.point = point
    }
  }

  public let kind: Kind
  public let plan: Plan
  public let by: Operator
  public let started: Date
  public let ended: Date
  /// From which the times to recover count.
  public let disaster: Date?
  /// The one moment to which everything was to go back; nil: to the latest.
  public let targetMoment: Date?
  public let phases: [Phase]
  public let components: [Recovered]
  /// Of everything together.
  public let rto: Measure
  public let rpo: Measure
  /// What was seen, and what follows from steps and targets.
  public let findings: [Finding]
  public let suppressions: [Suppression]
  /// Of servers and programs, by name.
  public let versions: [String: String]
  /// Why it could not look at what it should have, if it could not.
  public let obstacle: String?
  /// Its place in a history, from 1; nil outside of one.
  public internal(set) var number: Int?
  /// The SHA-256 of the report before it in the history, as it is stored.
  public internal(set) var previous: String?

  /// - Parameters:
  ///   - findings: What was seen. What follows from steps and targets is added.
  ///   - versions: Of servers and programs, by name.
  ///   - obstacle: Why it could not look, if it could not.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for two phases of a kind, and an end before the beginning.
  public init(
    _ kind: Kind, of plan: Plan, by: Operator, from started: Date, to ended: Date, disaster: Date? = nil,
    targetMoment: Date? = nil, phases: [Phase], components: [Recovered] = [], rto: Measure = Measure(),
    rpo: Measure = Measure(), findings: [Finding] = [], suppressions: [Suppression] = [],
    versions: [String: String] = [:], obstacle: String? = nil
  ) throws {
    self.kind = kind
    self.plan = plan
    self.by = by
    self.started = started
    self.ended = ended
    self.disaster = disaster
    self.targetMoment = targetMoment
    self.phases = phases
    self.components = components
    self.rto = rto
    self.rpo = rpo
    self.findings =
      findings
      + RunReport.implied(phases: phases, components: components, platform: (plan.name, rto, rpo))
    self.suppressions = suppressions
    self.versions = versions
    self.obstacle = obstacle
    try check()
  }

  init(stored: Stored) throws {
    kind = stored.kind
    plan = stored.plan
    by = stored.by
    started = stored.started.date
    ended = stored.ended.date
    disaster = stored.disaster?.date
    targetMoment = stored.targetMoment?.date
    phases = stored.phases.map { Phase($0) }
    components = stored.components.map { Recovered($0) }
    rto = Measure(stored.platform.rto)
    rpo = Measure(stored.platform.rpo)
    findings = stored.findings
    suppressions = stored.suppressions
    versions = stored.versions
    obstacle = stored.obstacle
    number = stored.number
    previous = stored.previous
    try check()
  }

  /// At a place in a history.
  package func placed(_ number: Int, after former: ReportFiles?) -> RunReport {
    var report = self
    (report.number, report.previous) = (number, former?.report.sha256)
    return report
  }

  private func check() throws {
    func refuse(_ what: String) -> DRError {
      DRError(.invalidConfiguration, "the report of '\(plan.name.prefix(80))' is not right: \(what)")
    }
    guard Set(phases.map(\.kind)).count == phases.count else { throw refuse("it has a phase twice") }
    guard started <= ended else { throw refuse("it ends before it begins") }
    guard number.map({ $0 > 0 && ($0 > 1) == (previous != nil) }) ?? (previous == nil),
      previous.map({ $0.wholeMatch(of: /[0-9a-f]{64}/) != nil }) ?? true
    else { throw refuse("its place in its history is none") }
  }
}
