/// One protected system: its kind and its name, written `postgres/agent_orchestrator`.
public struct Component: Hashable, Sendable, CustomStringConvertible {
  /// What kind of system a component is. The text is also the first folder of its backups.
  public struct Kind: Hashable, Sendable, CustomStringConvertible {
    /// Lower-case letters, digits and hyphens.
    public let rawValue: String

    /// Creates a kind from its text.
    ///
    /// - Throws: ``DRError`` with `invalidConfiguration` unless the text is 1 to 63 lower-case letters, digits,
    ///   underscores or hyphens.
    public init(_ text: String) throws {
      try Component.check(text, "kind")
      rawValue = text
    }

    private init(known: String) { rawValue = known }

    public static let postgres = Kind(known: "postgres")
    public static let redis = Kind(known: "redis")
    public static let rabbitmq = Kind(known: "rabbitmq")
    public static let config = Kind(known: "config")

    public var description: String { rawValue }
  }

  public let kind: Kind
  public let name: String

  /// Creates a component.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` unless the name is 1 to 63 lower-case letters, digits,
  ///   underscores or hyphens: it becomes a part of object keys and of metric labels.
  public init(_ kind: Kind, _ name: String) throws {
    try Component.check(name, "name")
    self.kind = kind
    self.name = name
  }

  /// Parses `kind/name`.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` if the text is not of that form.
  public init(parsing text: String) throws {
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2 else {
      throw DRError(
        .invalidConfiguration, "'\(text)' is not a component", advice: "write kind/name, as in postgres/app")
    }
    try self.init(Kind(String(parts[0])), String(parts[1]))
  }

  public var description: String { "\(kind)/\(name)" }

  private static func check(_ text: String, _ what: String) throws {
    let good = text.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
      case UInt8(ascii: "_"), UInt8(ascii: "-"): true
      default: false
      }
    }
    guard good, (1...63).contains(text.utf8.count) else {
      throw DRError(
        .invalidConfiguration, "'\(text)' cannot be the \(what) of a component",
        advice: "use 1 to 63 lower-case letters, digits, underscores or hyphens")
    }
  }
}

extension Component: Codable {
  public init(from decoder: any Decoder) throws {
    try self.init(parsing: decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
