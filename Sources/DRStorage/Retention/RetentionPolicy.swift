public import DRCore

import struct Foundation.Calendar
import struct Foundation.Date
import struct Foundation.TimeZone

/// What to keep, as a value: for one tier, for every component or for each its own.
///
///     // The plan's three tiers.
///     RetentionPolicy([.within(days: 7)])                                     // local
///     RetentionPolicy([.within(days: 90)])                                    // S3 Standard-IA
///     RetentionPolicy([.newest(84, each: .month)], lock: .init(.compliance, days: 2557))  // archive
///
/// A backup is kept if any rule keeps it. Whatever the rules say, these are kept as well: what a kept backup needs (its
/// parents), the last restorable backup of each system, and what cannot be read.
public struct RetentionPolicy: Hashable, Sendable {
  /// One reason to keep a backup.
  public struct Rule: Hashable, Sendable, CustomStringConvertible {
    public enum Kind: Hashable, Sendable {
      /// Everything whose recovery point is younger, in seconds.
      case within(seconds: Double)
      /// The newest so many.
      case newest(Int)
      /// Of each period that has backups the newest, for the newest so many periods: grandfather, father, son.
      case newestOfEach(Period, count: Int)
    }

    public var kind: Kind
    /// Only for backups of this cadence; nil: of any.
    public var cadence: Cadence?

    public init(_ kind: Kind, cadence: Cadence? = nil) {
      self.kind = kind
      self.cadence = cadence
    }

    public static func within(days: Double, cadence: Cadence? = nil) -> Rule {
      Rule(.within(seconds: days * 86_400), cadence: cadence)
    }

    public static func newest(_ count: Int, cadence: Cadence? = nil) -> Rule { Rule(.newest(count), cadence: cadence) }

    public static func newest(_ count: Int, each period: Period, cadence: Cadence? = nil) -> Rule {
      Rule(.newestOfEach(period, count: count), cadence: cadence)
    }

    public var description: String {
      let text =
        switch kind {
        case .within(let seconds): "younger than \((seconds / 864).rounded() / 100) days"
        case .newest(let count): "one of the newest \(count)"
        case .newestOfEach(let period, let count): "the newest of one of the last \(count) \(period.rawValue)s"
        }
      return text + (cadence.map { " (\($0))" } ?? "")
    }
  }

  /// In UTC; a week is one of ISO 8601.
  public enum Period: String, Hashable, Sendable, Codable, CaseIterable {
    case hour, day, week, month, year
  }

  /// How long everything that a kept backup needs is locked from now on, at each pruning.
  public struct Lock: Hashable, Sendable, Codable {
    public var mode: RetentionLock.Mode
    public var days: Double

    public init(_ mode: RetentionLock.Mode, days: Double) {
      self.mode = mode
      self.days = days
    }
  }

  public var rules: [Rule]
  /// In place of the rules above, by component (`postgres/app`).
  public var components: [String: [Rule]]
  /// Nil: nothing is locked.
  public var lock: Lock?
  /// A system that the component no longer is, as after an upgrade: once its newest backup is older than so many days, and
  /// the component has a restorable backup of a later system, it has no last restorable backup, and no count keeps it. Nil:
  /// each system is kept as if it were the only one.
  public var forgetOldSystemsAfterDays: Double?

  public init(
    _ rules: [Rule], components: [String: [Rule]] = [:], lock: Lock? = nil, forgetOldSystemsAfterDays: Double? = nil
  ) {
    self.rules = rules
    self.components = components
    self.lock = lock
    self.forgetOldSystemsAfterDays = forgetOldSystemsAfterDays
  }

  package func rules(for component: Component) -> [Rule] { components[component.description] ?? rules }

  /// Which rules keep which of the backups of one component and system, by identity.
  ///
  /// - Parameter counting: Whether rules that count apply.
  static func kept(
    _ backups: [BackupManifest], by rules: [Rule], at now: Date, counting: Bool = true
  ) -> [String: [String]] {
    var reasons: [String: [String]] = [:]
    for rule in rules {
      let candidates = backups.filter { rule.cadence == nil || $0.cadence == rule.cadence }
        .sorted { ($0.recoveryPoint.time, $0.id) > ($1.recoveryPoint.time, $1.id) }
      let chosen: [BackupManifest]
      switch rule.kind {
      // One from the future is younger than any age: a clock was wrong, and a person should look.
      case .within(let seconds):
        chosen = candidates.filter { now.timeIntervalSince($0.recoveryPoint.time) < seconds }
      case .newest(let count): chosen = counting ? Array(candidates.prefix(max(0, count))) : []
      case .newestOfEach(let period, let count):
        var seen: Set<[Int]> = []
        chosen =
          counting
          ? candidates.filter { backup in
            let name = period.name(of: backup.recoveryPoint.time)
            return !seen.contains(name) && seen.count < count && seen.insert(name).inserted
          } : []
      }
      for backup in chosen { reasons[backup.id, default: []].append(rule.description) }
    }
    return reasons
  }
}

extension RetentionPolicy.Period {
  private static let calendar: Calendar = {
    var calendar = Calendar(identifier: .iso8601)
    calendar.timeZone = TimeZone(secondsFromGMT: 0) ?? .gmt
    return calendar
  }()

  /// Alike for two moments of one period.
  func name(of moment: Date) -> [Int] {
    let parts = Self.calendar.dateComponents(
      [.year, .month, .day, .hour, .yearForWeekOfYear, .weekOfYear], from: moment)
    let (year, month, day) = (parts.year ?? 0, parts.month ?? 0, parts.day ?? 0)
    return switch self {
    case .hour: [year, month, day, parts.hour ?? 0]
    case .day: [year, month, day]
    case .week: [parts.yearForWeekOfYear ?? 0, parts.weekOfYear ?? 0]
    case .month: [year, month]
    case .year: [year]
    }
  }
}
