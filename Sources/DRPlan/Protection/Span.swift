import DRCore

/// A duration as a plan writes it: `15m`, `1h30m`, `7d`, `250ms`.
public struct Span: Hashable, Sendable, Comparable, CustomStringConvertible {
  public var duration: Duration

  public init(_ duration: Duration) { self.duration = duration }

  public static func seconds(_ count: Double) -> Span { Span(.seconds(count)) }
  public static func minutes(_ count: Double) -> Span { Span(.seconds(count * 60)) }
  public static func hours(_ count: Double) -> Span { Span(.seconds(count * 3600)) }
  public static func days(_ count: Double) -> Span { Span(.seconds(count * 86_400)) }

  private static let units: [(name: String, seconds: Double)] = [
    ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1), ("ms", 0.001),
  ]

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public init(_ text: String) throws {
    func refuse() -> DRError {
      DRError(
        .invalidConfiguration, "'\(text.prefix(40))' is no duration", advice: "write 15m, 1h30m, 7d, 20s or 250ms")
    }
    var (rest, total, last) = (Substring(text), 0.0, -1)
    guard !rest.isEmpty else { throw refuse() }
    while !rest.isEmpty {
      let number = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      rest = rest.dropFirst(number.count)
      let unit = rest.prefix { $0.isASCII && $0.isLetter }
      rest = rest.dropFirst(unit.count)
      guard let count = Double(number), let index = Self.units.firstIndex(where: { $0.name == unit }), index > last
      else {
        throw refuse()
      }
      last = index
      total += count * Self.units[index].seconds
    }
    guard total < 1e10 else { throw refuse() }
    duration = .seconds(total)
  }

  public var seconds: Double { duration / .seconds(1) }

  public var description: String {
    var rest = Int((seconds * 1000).rounded())
    guard rest > 0 else { return "0s" }
    var text = ""
    for (name, size) in Self.units {
      let unit = Int((size * 1000).rounded())
      if rest >= unit { text += "\(rest / unit)\(name)" }
      rest %= unit
    }
    return text
  }

  public static func < (left: Span, right: Span) -> Bool { left.duration < right.duration }
}

extension Span: Codable {
  public init(from decoder: any Decoder) throws { try self.init(decoder.singleValueContainer().decode(String.self)) }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
