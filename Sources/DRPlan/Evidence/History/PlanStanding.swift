import DRVerify

public import struct Foundation.Date

/// Whether a plan can be relied on, from what is known of its runs.
public enum PlanStanding: Hashable, Sendable, CustomStringConvertible {
  case neverDrilled
  /// Its last run did not pass; nor did any since then.
  case failing(since: Date)
  /// Nothing failed in its last run, and nothing proved what came of it.
  case unproven(Date)
  /// It passed, and the plan was changed after that.
  case void(passed: Date)
  /// It passed too long ago.
  case stale(passed: Date)
  case verified(Date)

  /// - Parameters:
  ///   - reports: In any order, of any plans.
  ///   - plan: As it is now.
  ///   - kinds: Which runs count.
  ///   - age: For how long one counts.
  public static func of(
    _ plan: RunReport.Plan, in reports: [RunReport], counting kinds: Set<RunReport.Kind> = [.drill, .recovery],
    for age: Span, now: Date
  ) -> PlanStanding {
    let runs = reports.filter { $0.plan.name == plan.name && kinds.contains($0.kind) && $0.verdict != .notConfigured }
      .sorted { ($0.ended, $0.number ?? 0) < ($1.ended, $1.number ?? 0) }
    guard let last = runs.last else { return .neverDrilled }
    guard last.verdict == .passed else {
      if last.verdict == .couldNotVerify { return .unproven(last.ended) }
      let since = runs.reversed().prefix { $0.verdict != .passed }.last ?? last
      return .failing(since: since.ended)
    }
    if last.plan.digest != plan.digest { return .void(passed: last.ended) }
    return now.timeIntervalSince(last.ended) > age.seconds ? .stale(passed: last.ended) : .verified(last.ended)
  }

  public var isVerified: Bool { if case .verified = self { true } else { false } }

  /// `never drilled`, `failing`, `unproven`, `void`, `stale`, `verified`.
  public var name: String {
    switch self {
    case .neverDrilled: "never drilled"
    case .failing: "failing"
    case .unproven: "unproven"
    case .void: "void"
    case .stale: "stale"
    case .verified: "verified"
    }
  }

  public var description: String {
    switch self {
    case .neverDrilled: name
    case .failing(let since): "failing since \(ReportWords.moment(since))"
    case .unproven(let ended): "unproven: \(ReportWords.moment(ended)) nothing failed, and not everything was looked at"
    case .void(let passed): "void: the plan was changed since it passed, \(ReportWords.moment(passed))"
    case .stale(let passed): "stale: it passed last \(ReportWords.moment(passed))"
    case .verified(let moment): "verified \(ReportWords.moment(moment))"
    }
  }
}
