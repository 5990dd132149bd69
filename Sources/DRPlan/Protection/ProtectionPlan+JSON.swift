import DRCore
import DRStorage

import struct Foundation.TimeZone

/// As people write it: a sample is in `Examples/dr-plan/platform.json`. A field that is not known is an error.
extension ProtectionPlan: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case name, timeZone, platform, tiers, components }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    self.init(
      try fields.decode(String.self, forKey: .name),
      timeZone: try fields.decodeIfPresent(String.self, forKey: .timeZone) ?? "UTC",
      platform: try fields.decode(PlannedObjective.self, forKey: .platform).objective,
      tiers: try fields.decode([Tier].self, forKey: .tiers),
      components: try fields.decode([Protected].self, forKey: .components))
    guard TimeZone(identifier: timeZone) != nil else {
      throw DecodingError.dataCorruptedError(
        forKey: .timeZone, in: fields, debugDescription: "'\(timeZone.prefix(40))' is no time zone: write Europe/Berlin"
      )
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(name, forKey: .name)
    try fields.encode(timeZone, forKey: .timeZone)
    try fields.encode(PlannedObjective(platform), forKey: .platform)
    try fields.encode(tiers, forKey: .tiers)
    try fields.encode(components, forKey: .components)
  }
}

extension ProtectionPlan.Tier: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case name, place, storageClass, retention, delay }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    self.init(
      try fields.decode(String.self, forKey: .name), at: try fields.decode(String.self, forKey: .place),
      storageClass: try fields.decodeIfPresent(String.self, forKey: .storageClass).map { StorageClass(rawValue: $0) },
      retention: try fields.decode(RetentionPolicy.self, forKey: .retention),
      delay: try fields.decodeIfPresent(Span.self, forKey: .delay) ?? .seconds(0))
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(name, forKey: .name)
    try fields.encode(place, forKey: .place)
    try fields.encodeIfPresent(storageClass?.rawValue, forKey: .storageClass)
    try fields.encode(retention, forKey: .retention)
    if delay.seconds > 0 { try fields.encode(delay, forKey: .delay) }
  }
}

extension ProtectionPlan.Schedule: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case cron, continuous, onChange }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    let cron = try fields.decodeIfPresent(CronExpression.self, forKey: .cron)
    let continuous = try fields.decodeIfPresent(Span.self, forKey: .continuous)
    let onChange = try fields.decodeIfPresent(Span.self, forKey: .onChange)
    switch (cron, continuous, onChange) {
    case (let cron?, nil, nil): self = .cron(cron)
    case (nil, let span?, nil): self = .continuous(within: span)
    case (nil, nil, let span?): self = .onChange(within: span)
    default:
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: "a schedule is one of cron, continuous and onChange"))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    switch self {
    case .cron(let cron): try fields.encode(cron, forKey: .cron)
    case .continuous(let span): try fields.encode(span, forKey: .continuous)
    case .onChange(let span): try fields.encode(span, forKey: .onChange)
    }
  }
}

extension ProtectionPlan.Capture: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case name, purpose, schedule, cadence, taking }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    self.init(
      try fields.decode(String.self, forKey: .name),
      try fields.decode(ProtectionPlan.Purpose.self, forKey: .purpose),
      try fields.decode(ProtectionPlan.Schedule.self, forKey: .schedule),
      cadence: try fields.decodeIfPresent(Cadence.self, forKey: .cadence),
      taking: try fields.decodeIfPresent(Span.self, forKey: .taking) ?? .seconds(0))
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(name, forKey: .name)
    try fields.encode(purpose, forKey: .purpose)
    try fields.encode(schedule, forKey: .schedule)
    try fields.encodeIfPresent(cadence, forKey: .cadence)
    if duration.seconds > 0 { try fields.encode(duration, forKey: .taking) }
  }
}

extension ProtectionPlan.Verification: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case level, cron }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    self.init(
      try fields.decode(ProtectionPlan.Level.self, forKey: .level),
      try fields.decode(CronExpression.self, forKey: .cron))
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(level, forKey: .level)
    try fields.encode(schedule, forKey: .cron)
  }
}

extension ProtectionPlan.Protected: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case component, objective, tiers, captures, verifications }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    self.init(
      try fields.decode(Component.self, forKey: .component),
      try fields.decode(PlannedObjective.self, forKey: .objective).objective,
      on: try fields.decode([String].self, forKey: .tiers),
      captures: try fields.decode([ProtectionPlan.Capture].self, forKey: .captures),
      verifications: try fields.decodeIfPresent([ProtectionPlan.Verification].self, forKey: .verifications) ?? [])
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(component, forKey: .component)
    try fields.encode(PlannedObjective(objective), forKey: .objective)
    try fields.encode(tiers, forKey: .tiers)
    try fields.encode(captures, forKey: .captures)
    if !verifications.isEmpty { try fields.encode(verifications, forKey: .verifications) }
  }
}

/// An objective in a plan's words: `{"rto": "1h", "rpo": "15m", "priority": "critical"}`.
private struct PlannedObjective: Codable {
  var objective: Objective

  private enum CodingKeys: String, CodingKey, CaseIterable { case rto, rpo, priority }
  private static let priorities: [(name: String, priority: Objective.Priority)] = [
    ("critical", .critical), ("high", .high), ("medium", .medium),
  ]

  init(_ objective: Objective) { self.objective = objective }

  init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    let name = try fields.decode(String.self, forKey: .priority)
    guard let priority = Self.priorities.first(where: { $0.name == name })?.priority else {
      throw DecodingError.dataCorruptedError(
        forKey: .priority, in: fields, debugDescription: "'\(name.prefix(40))' is no priority: critical, high or medium"
      )
    }
    objective = Objective(
      rto: try fields.decode(Span.self, forKey: .rto).duration,
      rpo: try fields.decode(Span.self, forKey: .rpo).duration,
      priority: priority)
  }

  func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(Span(objective.rto), forKey: .rto)
    try fields.encode(Span(objective.rpo), forKey: .rpo)
    try fields.encode(Self.priorities.first { $0.priority == objective.priority }?.name, forKey: .priority)
  }
}
