import DRCore

import struct Foundation.Date

/// A moment as evidence writes it: ISO 8601 in UTC.
struct Instant: Codable {
  var date: Date

  init?(_ date: Date?) {
    guard let date else { return nil }
    self.date = date
  }

  init(at date: Date) { self.date = date }

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let date = Timestamp.parse(text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text.prefix(40))' is no moment")
    }
    self.date = date
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(Timestamp.format(date))
  }
}

/// A duration as evidence writes it: seconds, to the millisecond.
struct Seconds: Codable {
  var span: Span

  init?(_ span: Span?) {
    guard let span else { return nil }
    self.span = span
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let seconds = try container.decode(Double.self)
    guard (0..<1e10).contains(seconds) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(seconds) is no number of seconds")
    }
    span = .seconds(seconds)
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode((span.seconds * 1000).rounded() / 1000)
  }
}
