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
    // By hand: a list of a bucket has one for each object.
    var rest = ISO8601Scanner(text)
    guard let year = rest.number(4), rest.skip("-"), let month = rest.number(2), rest.skip("-"),
      let day = rest.number(2), rest.skip("T") || rest.skip(" "), let hour = rest.number(2), rest.skip(":"),
      let minute = rest.number(2), (1...12).contains(month), hour < 24, minute < 60
    else { return nil }
    var (second, fraction) = (0, 0.0)
    if rest.skip(":") {
      guard let whole = rest.number(2), whole <= 60 else { return nil }
      second = whole
      if rest.skip(".") {
        guard let part = rest.fraction(atMost: 9) else { return nil }
        fraction = part
      }
    }
    guard let offset = rest.zone(), rest.isAtEnd, let days = daysSince1970(year: year, month: month, day: day) else {
      return nil
    }
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second - offset
    // As whoever counts from 1970 has it, while a double does so in less than half a microsecond; then as a date itself
    // counts, which rounds once.
    guard seconds.magnitude >= 1 << 32 else { return Date(timeIntervalSince1970: TimeInterval(seconds) + fraction) }
    return Date(timeIntervalSinceReferenceDate: TimeInterval(seconds - referenceDate) + fraction)
  }

  /// Days since 1970 in the Gregorian calendar; nil for a day that the month does not have.
  private static func daysSince1970(year: Int, month: Int, day: Int) -> Int? {
    let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    guard year > 0, (1...lengths[month - 1]).contains(day) else { return nil }
    let before = year - 1
    let sinceYearOne = before * 365 + before / 4 - before / 100 + before / 400
    return sinceYearOne - 719_162 + lengths[..<(month - 1)].reduce(0, +) + day - 1
  }

  /// From when a date counts, in seconds since 1970.
  private static let referenceDate = Int(Date.timeIntervalBetween1970AndReferenceDate)

  /// Whole seconds and microseconds since 1970, rounded to the nearest microsecond.
  private static func split(_ date: Date) -> (seconds: Int64, micros: Int) {
    let interval = date.timeIntervalSinceReferenceDate
    guard interval.magnitude < 9e12 else { return (0, 0) }
    let whole = interval.rounded(.down)
    let micros = Int(((interval - whole) * 1_000_000).rounded())
    let seconds = Int64(whole) + Int64(referenceDate)
    return micros == 1_000_000 ? (seconds + 1, 0) : (seconds, micros)
  }

  private static func pad(_ value: Int?, _ width: Int) -> String {
    let digits = String(value ?? 0)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}

/// Takes a text of digits and marks apart, from its start on.
private struct ISO8601Scanner {
  private var bytes: ArraySlice<UInt8>

  init(_ text: String) { bytes = Array(text.utf8)[...] }

  var isAtEnd: Bool { bytes.isEmpty }

  mutating func skip(_ mark: Unicode.Scalar) -> Bool {
    guard bytes.first == UInt8(ascii: mark) else { return false }
    bytes.removeFirst()
    return true
  }

  /// A number of so many digits.
  mutating func number(_ digits: Int) -> Int? {
    guard bytes.count >= digits else { return nil }
    var value = 0
    for byte in bytes.prefix(digits) {
      guard let digit = Self.digit(byte) else { return nil }
      value = value * 10 + digit
    }
    bytes.removeFirst(digits)
    return value
  }

  mutating func fraction(atMost digits: Int) -> Double? {
    var (value, scale, count) = (0.0, 1.0, 0)
    while let digit = bytes.first.flatMap(Self.digit) {
      guard count < digits else { return nil }
      (value, scale, count) = (value * 10 + Double(digit), scale * 10, count + 1)
      bytes.removeFirst()
    }
    return count > 0 ? value / scale : nil
  }

  /// `Z`, or what a local time is ahead of UTC, in seconds.
  mutating func zone() -> Int? {
    while skip(" ") {}
    if skip("Z") { return 0 }
    let isBehind = skip("-")
    guard isBehind || skip("+"), let hours = number(2) else { return nil }
    var minutes = 0
    if skip(":") || !isAtEnd {
      guard let given = number(2) else { return nil }
      minutes = given
    }
    return (hours * 3600 + minutes * 60) * (isBehind ? -1 : 1)
  }

  private static func digit(_ byte: UInt8) -> Int? {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) ? Int(byte - UInt8(ascii: "0")) : nil
  }
}
