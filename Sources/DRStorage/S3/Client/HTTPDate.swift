import DRCore

import struct Foundation.Date

/// The date of an HTTP header: `Tue, 24 Nov 2026 12:45:19 GMT`.
enum HTTPDate {
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  static func parse(_ text: String) -> Date? {
    let words = text.split(separator: " ")
    guard words.count == 6, words[5] == "GMT" || words[5] == "UTC", let month = months.firstIndex(of: String(words[2]))
    else { return nil }
    let (day, number) = (words[1], "\(month + 1)")
    func two(_ digits: some StringProtocol) -> String { digits.count == 1 ? "0\(digits)" : String(digits) }
    return Timestamp.parse("\(words[3])-\(two(number))-\(two(day))T\(words[4])Z")
  }
}
