package import Foundation

/// Moments as text: ISO 8601 in UTC with microseconds (`2026-11-23T03:41:53.123456Z`), the resolution of PostgreSQL.
package enum Timestamp {
  private static let calendar: Calendar = {
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = TimeZone(secondsFromGMT: 0) ?? .gmt
    return calendar
  }()

  package static func format(_ date: Date) -> String {
    let (seconds, micros) = split(date)
    let part = calendar.dateComponents(
      [.year, .month, .day, .hour, .minute, .second], from: Date(timeIntervalSince1970: TimeInterval(seconds)))
    return pad(part.year, 4) + "-" + pad(part.month, 2) + "-" + pad(part.day, 2) + "T" + pad(part.hour, 2) + ":"
      + pad(part.minute, 2) + ":" + pad(part.second, 2) + "." + pad(micros, 6) + "Z"
  }

  /// `YYYYMMDD_HHMMSS` in UTC, as in the names of the plan's tree.
  package static func compact(_ date: Date) -> String {
    let digits = format(date).prefix(19).filter(\.isNumber)
    return "\(digits.prefix(8))_\(digits.suffix(6))"
  }

  /// As PostgreSQL writes and reads it: `2026-11-23 03:41:53.123456+00`.
  package static func postgres(_ date: Date) -> String {
    format(date).replacing("T", with: " ").replacing("Z", with: "+00")
  }

  /// Reads ISO 8601 with any number of fraction digits, and `Z` or an offset such as `+02:00` or `+02`. A space may
  /// stand for the `T`, as PostgreSQL writes it.
  package static func parse(_ text: String) -> Date? {
    let pattern =
      /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s*(?:(Z)|([+-])(\d\d):?(\d\d)?)$/
    guard let match = text.wholeMatch(of: pattern) else { return nil }
    let parts = DateComponents(
      year: Int(match.1), month: Int(match.2), day: Int(match.3), hour: Int(match.4), minute: Int(match.5),
      second: match.6.flatMap { Int($0) } ?? 0)
    guard let whole = calendar.date(from: parts),
      calendar.dateComponents([.month, .day, .hour], from: whole)
        == DateComponents(month: parts.month, day: parts.day, hour: parts.hour)
    else { return nil }
    var seconds = whole.timeIntervalSince1970
    if let sign = match.9 {
      let offset = (Int(match.10 ?? "0") ?? 0) * 3600 + (match.11.flatMap { Int($0) } ?? 0) * 60
      seconds -= TimeInterval(sign == "-" ? -offset : offset)
    }
    let fraction = match.7.map { Double("0." + $0) ?? 0 } ?? 0
    return Date(timeIntervalSince1970: seconds + fraction)
  }

  /// Whole seconds and microseconds since 1970, rounded to the nearest microsecond.
  private static func split(_ date: Date) -> (seconds: Int64, micros: Int) {
    let total = (date.timeIntervalSince1970 * 1_000_000).rounded()
    guard total.magnitude < 9e18 else { return (0, 0) }
    let micros = Int64(total)
    let (quotient, remainder) = micros.quotientAndRemainder(dividingBy: 1_000_000)
    return remainder < 0 ? (quotient - 1, Int(remainder) + 1_000_000) : (quotient, Int(remainder))
  }

  private static func pad(_ value: Int?, _ width: Int) -> String {
    let digits = String(value ?? 0)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}
