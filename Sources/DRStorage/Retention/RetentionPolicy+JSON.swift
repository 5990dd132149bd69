import DRCore

/// As people write it:
///
///     {
///       "rules": [{"days": 7}, {"newest": 3}, {"newest": 12, "each": "month"}],
///       "components": {"redis/cache": [{"days": 2}, {"newest": 8, "each": "week", "cadence": "daily"}]},
///       "lock": {"mode": "governance", "days": 30},
///       "forgetOldSystemsAfterDays": 90
///     }
///
/// Only `rules` is needed. A field that is not known is an error: a rule that was mistyped must not remove anything.
extension RetentionPolicy: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case rules, components, lock, forgetOldSystemsAfterDays }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    self.init(
      try fields.decode([Rule].self, forKey: .rules),
      components: try fields.decodeIfPresent([String: [Rule]].self, forKey: .components) ?? [:],
      lock: try fields.decodeIfPresent(Lock.self, forKey: .lock),
      forgetOldSystemsAfterDays: try fields.decodeIfPresent(Double.self, forKey: .forgetOldSystemsAfterDays))
    for name in components.keys { _ = try Component(parsing: name) }
    try Self.check(
      forgetOldSystemsAfterDays.map { $0 > 0 } ?? true, "forgetOldSystemsAfterDays is more than 0", decoder)
    try Self.check(lock.map { $0.days > 0 } ?? true, "the days of a lock are more than 0", decoder)
    try Self.check(!rules.isEmpty, "no rule says what to keep", decoder)
    try Self.check(
      !components.values.contains { $0.isEmpty }, "a component has no rule that says what to keep", decoder)
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    try fields.encode(rules, forKey: .rules)
    if !components.isEmpty { try fields.encode(components, forKey: .components) }
    try fields.encodeIfPresent(lock, forKey: .lock)
    try fields.encodeIfPresent(forgetOldSystemsAfterDays, forKey: .forgetOldSystemsAfterDays)
  }

  fileprivate static func check(_ isRight: Bool, _ what: String, _ decoder: any Decoder) throws {
    guard isRight else {
      throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: what))
    }
  }
}

extension RetentionPolicy.Rule: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case days, newest, each, cadence }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    let days = try fields.decodeIfPresent(Double.self, forKey: .days)
    let newest = try fields.decodeIfPresent(Int.self, forKey: .newest)
    let each = try fields.decodeIfPresent(RetentionPolicy.Period.self, forKey: .each)
    let kind: Kind
    switch (days, newest, each) {
    case (let days?, nil, nil) where days > 0 && days < 1e6: kind = .within(seconds: days * 86_400)
    case (nil, let count?, nil) where count > 0: kind = .newest(count)
    case (nil, let count?, let period?) where count > 0: kind = .newestOfEach(period, count: count)
    default:
      throw DecodingError.dataCorrupted(
        .init(
          codingPath: decoder.codingPath,
          debugDescription: "a rule has either days, or newest, or newest and each; each of them more than 0"))
    }
    self.init(kind, cadence: try fields.decodeIfPresent(Cadence.self, forKey: .cadence))
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    switch kind {
    case .within(let seconds): try fields.encode(seconds / 86_400, forKey: .days)
    case .newest(let count): try fields.encode(count, forKey: .newest)
    case .newestOfEach(let period, let count):
      try fields.encode(count, forKey: .newest)
      try fields.encode(period, forKey: .each)
    }
    try fields.encodeIfPresent(cadence, forKey: .cadence)
  }
}
