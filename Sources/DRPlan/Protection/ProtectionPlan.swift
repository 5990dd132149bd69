public import DRCore
public import DRStorage

public import struct Foundation.Date

/// How a platform is protected, as a value: what is captured and when, where it is kept and for how long, how often it is verified, and
/// what is promised of each component.
///
/// It does nothing by itself. ``findings(_:)`` says what of its promises it cannot keep, ``exposure(of:in:failing:)`` what would be lost at any moment.
public struct ProtectionPlan: Hashable, Sendable {
  /// Where backups are kept.
  public struct Tier: Hashable, Sendable {
    public var name: String
    /// A folder, or `s3://bucket/prefix`.
    public var place: String
    public var storageClass: StorageClass?
    public var retention: RetentionPolicy
    /// How long until what lies there can be read, at most: of an archive, its thaw.
    public var delay: Span

    public init(
      _ name: String, at place: String, storageClass: StorageClass? = nil, retention: RetentionPolicy,
      delay: Span = .seconds(0)
    ) {
      self.name = name
      self.place = place
      self.storageClass = storageClass
      self.retention = retention
      self.delay = delay
    }
  }

  /// When a capture runs.
  public enum Schedule: Hashable, Sendable {
    /// At times of the clock in the plan's time zone.
    case cron(CronExpression)
    /// Always: what has happened is durable within so long.
    case continuous(within: Span)
    /// Whenever something has changed: stored within so long.
    case onChange(within: Span)
  }

  /// What a capture gives to a restore.
  public enum Purpose: String, Hashable, Sendable, Codable {
    /// It can be restored by itself.
    case full
    /// It goes on from the last full one.
    case incremental
    /// A change log: it needs a full one before it.
    case log
    /// Upkeep, as a rewrite or a cleaning: it gives nothing to restore.
    case upkeep
  }

  public struct Capture: Hashable, Sendable {
    public var name: String
    public var purpose: Purpose
    public var schedule: Schedule
    /// How it is retained; nil: it is no backup, as a log.
    public var cadence: Cadence?
    /// How long one takes at most, from its recovery point until it is durable.
    public var duration: Span

    public init(
      _ name: String, _ purpose: Purpose, _ schedule: Schedule, cadence: Cadence? = nil,
      taking duration: Span = .seconds(0)
    ) {
      self.name = name
      self.purpose = purpose
      self.schedule = schedule
      self.cadence = cadence
      self.duration = duration
    }
  }

  /// How thoroughly backups are looked at.
  public enum Level: String, Hashable, Sendable, Codable {
    case metadata, sample, data, restore, drill
  }

  public struct Verification: Hashable, Sendable {
    public var level: Level
    public var schedule: CronExpression

    public init(_ level: Level, _ schedule: CronExpression) {
      self.level = level
      self.schedule = schedule
    }
  }

  /// One component and what is done for it.
  public struct Protected: Hashable, Sendable {
    public var component: Component
    public var objective: Objective
    public var captures: [Capture]
    /// The tiers that hold it, by name, the nearest first.
    public var tiers: [String]
    public var verifications: [Verification]

    public init(
      _ component: Component, _ objective: Objective, on tiers: [String], captures: [Capture],
      verifications: [Verification] = []
    ) {
      self.component = component
      self.objective = objective
      self.tiers = tiers
      self.captures = captures
      self.verifications = verifications
    }
  }

  public var name: String
  /// As the time zone database has it: `Europe/Berlin`. Schedules are of it.
  public var timeZone: String
  public var tiers: [Tier]
  public var components: [Protected]
  /// Of everything together.
  public var platform: Objective

  public init(
    _ name: String, timeZone: String = "UTC", platform: Objective, tiers: [Tier], components: [Protected]
  ) {
    self.name = name
    self.timeZone = timeZone
    self.platform = platform
    self.tiers = tiers
    self.components = components
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public func component(_ component: Component) throws -> Protected {
    guard let found = components.first(where: { $0.component == component }) else {
      throw DRError(
        .invalidConfiguration, "the plan '\(name)' has no component \(component)",
        advice: "it has \(components.map { "\($0.component)" }.joined(separator: ", "))", component: component)
    }
    return found
  }
}

extension ProtectionPlan {
  /// One run of a schedule.
  public struct Run: Hashable, Sendable {
    public var moment: Date
    public var component: Component
    /// The capture's name, or what is verified.
    public var what: String
  }

  /// Every run within a range, of captures and verifications, in order. What goes on all the time is not among them.
  ///
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` for a time zone that is none.
  public func runs(in range: Range<Date>) throws -> [Run] {
    let zone = try zone()
    var runs: [Run] = []
    for protected in components {
      for capture in protected.captures {
        guard case .cron(let cron) = capture.schedule else { continue }
        runs += cron.runs(in: range, zone: zone).map {
          Run(moment: $0, component: protected.component, what: capture.name)
        }
      }
      for verification in protected.verifications {
        runs += verification.schedule.runs(in: range, zone: zone).map {
          Run(moment: $0, component: protected.component, what: "verification, \(verification.level.rawValue)")
        }
      }
    }
    return runs.sorted { ($0.moment, "\($0.component)", $0.what) < ($1.moment, "\($1.component)", $1.what) }
  }
}
