package import struct Foundation.Date

/// PostgreSQL's `timestamptz` on the wire and on disk: microseconds since 2000-01-01 00:00 UTC.
package enum PostgresTime {
  private static let epoch: Double = 946_684_800

  package static func date(microseconds: Int64) -> Date {
    // Seconds and the rest apart, so that no digit is lost in the product.
    let (seconds, rest) = microseconds.quotientAndRemainder(dividingBy: 1_000_000)
    return Date(timeIntervalSince1970: epoch + Double(seconds) + Double(rest) / 1_000_000)
  }

  /// A moment outside the range of an `Int64` is brought to its end.
  package static func microseconds(_ date: Date) -> Int64 {
    let micros = ((date.timeIntervalSince1970 - epoch) * 1_000_000).rounded()
    guard micros.magnitude < 9.2e18 else { return micros < 0 ? .min : .max }
    return Int64(micros)
  }
}
