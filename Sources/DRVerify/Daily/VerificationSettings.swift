import DRCore

/// What a daily verification asks of the backups.
///
/// As JSON, each field may be left out, and one that is not known is an error:
///
///     {"level": "sample", "sample": "5%", "seed": 7, "maxAgeHours": 24, "sizeTolerance": 10, "minimumHistory": 3, "maxLagHours": 2,
///      "allBackups": false, "suppressions": [{"check": "backup-size", "subject": "postgres/*", "reason": "2,000 rows were purged"}]}
public struct VerificationSettings: Hashable, Sendable {
  public var level = VerificationLevel.data
  /// Read the content of all backups; otherwise of the newest of each component, method and cadence, and what they go on from.
  public var allBackups = false
  /// How old the newest backup of each component may be.
  public var maximumAge = Duration.seconds(24 * 3600)
  /// By how many percent a backup's raw size may differ from the median of those before it.
  public var sizeTolerance = 10.0
  /// How many earlier backups of the same kind and cadence say what a size is to be.
  public var minimumHistory = 3
  /// How long a copy may lack what the repository has.
  public var lag = Duration.seconds(2 * 3600)
  public var suppressions: [Suppression] = []

  public init() {}

  /// - Throws: ``DRError`` with `invalidConfiguration` for what can prove nothing.
  func check() throws {
    func refuse(_ what: String, _ advice: String) -> DRError {
      DRError(.invalidConfiguration, what, advice: advice)
    }
    guard (0..<100).contains(sizeTolerance) else {
      throw refuse("a tolerance of \(sizeTolerance) percent proves nothing", "give 0 up to, not including, 100")
    }
    guard maximumAge > .zero, lag >= .zero else {
      throw refuse("a time that a backup or a copy may take is not positive", "give hours")
    }
    guard minimumHistory >= 1 else { throw refuse("without earlier backups no size is expected", "give 1 or more") }
  }
}

extension VerificationSettings: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable {
    case level, sample, seed, allBackups, maxAgeHours, sizeTolerance, minimumHistory, maxLagHours, suppressions
  }

  public init(from decoder: any Decoder) throws {
    let fields = try decoder.known(CodingKeys.self)
    let amount = try fields.decodeIfPresent(String.self, forKey: .sample)
    let name = try fields.decodeIfPresent(String.self, forKey: .level)
    do {
      level = try VerificationLevel(
        name, sample: amount, seed: try fields.decodeIfPresent(UInt64.self, forKey: .seed) ?? 0)
      allBackups = try fields.decodeIfPresent(Bool.self, forKey: .allBackups) ?? allBackups
      func hours(_ key: CodingKeys) throws -> Duration? {
        try fields.decodeIfPresent(Double.self, forKey: key).map { .seconds($0 * 3600) }
      }
      maximumAge = try hours(.maxAgeHours) ?? maximumAge
      lag = try hours(.maxLagHours) ?? lag
      sizeTolerance = try fields.decodeIfPresent(Double.self, forKey: .sizeTolerance) ?? sizeTolerance
      minimumHistory = try fields.decodeIfPresent(Int.self, forKey: .minimumHistory) ?? minimumHistory
      suppressions = try fields.decodeIfPresent([Suppression].self, forKey: .suppressions) ?? []
      try check()
    } catch let error as DRError {
      throw DecodingError.dataCorrupted(
        .init(codingPath: decoder.codingPath, debugDescription: error.message, underlyingError: error))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: CodingKeys.self)
    switch level {
    case .metadata: try fields.encode("metadata", forKey: .level)
    case .data: try fields.encode("data", forKey: .level)
    case .sample(let sample):
      try fields.encode("sample", forKey: .level)
      try fields.encode(sample.amountText, forKey: .sample)
      try fields.encode(sample.seed, forKey: .seed)
    }
    try fields.encode(allBackups, forKey: .allBackups)
    try fields.encode(maximumAge / .seconds(3600), forKey: .maxAgeHours)
    try fields.encode(lag / .seconds(3600), forKey: .maxLagHours)
    try fields.encode(sizeTolerance, forKey: .sizeTolerance)
    try fields.encode(minimumHistory, forKey: .minimumHistory)
    try fields.encode(suppressions, forKey: .suppressions)
  }
}

extension VerificationLevel {
  /// From what a person typed.
  ///
  /// - Parameters:
  ///   - name: `metadata`, `sample` or `data`; nil: `sample` if there is one, else `data`.
  ///   - sample: As ``DataSample/init(parsing:seed:)`` reads it.
  /// - Throws: ``DRError`` with `invalidConfiguration`.
  public init(_ name: String?, sample: String?, seed: UInt64 = 0) throws {
    switch (name, sample) {
    case ("metadata", nil): self = .metadata
    case ("data", nil), (nil, nil): self = .data
    case ("sample", let sample?), (nil, let sample?): self = .sample(try DataSample(parsing: sample, seed: seed))
    case ("sample", nil):
      throw DRError(.invalidConfiguration, "a sample needs its size", advice: "give one: 5%, 2/7 or 500MB")
    case ("metadata", _?), ("data", _?):
      throw DRError(
        .invalidConfiguration, "a sample was asked for, and the level \(name ?? "")", advice: "give one of the two")
    default:
      throw DRError(
        .invalidConfiguration, "'\((name ?? "").prefix(40))' is no level", advice: "use metadata, sample or data")
    }
  }
}

extension DataSample {
  fileprivate var amountText: String {
    switch amount {
    case .part(let part, let all): "\(part)/\(all)"
    case .percent(let percent): "\(percent.shortText)%"
    case .bytes(let bytes): "\(bytes)B"
    }
  }
}
