/// How often a backup of its kind is taken. It is the folder of the plan's tree in which the backup lies, and
/// retention is set for each.
public struct Cadence: Hashable, Sendable, CustomStringConvertible {
  public let rawValue: String

  private init(known: String) { rawValue = known }

  public static let hourly = Cadence(known: "hourly")
  public static let daily = Cadence(known: "daily")
  public static let weekly = Cadence(known: "weekly")
  public static let monthly = Cadence(known: "monthly")

  public static let all: [Cadence] = [.hourly, .daily, .weekly, .monthly]

  /// Finds a cadence by its name.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for a name that is none.
  public init(parsing text: String) throws {
    guard let known = Cadence.all.first(where: { $0.rawValue == text }) else {
      throw DRError(.invalidConfiguration, "'\(text)' is not a cadence", advice: "use hourly, daily, weekly or monthly")
    }
    self = known
  }

  public var description: String { rawValue }
}

extension Cadence: Codable {
  public init(from decoder: any Decoder) throws {
    try self.init(parsing: decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(rawValue)
  }
}
