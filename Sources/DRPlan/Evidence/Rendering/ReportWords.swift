import DRCore

import struct Foundation.Date

/// How reports say things to people.
enum ReportWords {
  /// `2026-11-23 12:00:00 UTC`.
  static func moment(_ date: Date?) -> String {
    date.map { Timestamp.format($0).prefix(19).replacing("T", with: " ") + " UTC" } ?? "not known"
  }

  static func span(_ span: Span?) -> String { span.map { "\($0.rounded)" } ?? "not measured" }

  /// `3.2s of 1h`, as exactly as is needed to see that one is more than the other.
  static func measure(_ measure: RunReport.Measure) -> String {
    let actual = measure.isExceeded ? measure.actual.map { "\($0)" } ?? "" : span(measure.actual)
    return measure.target.map { "\(actual) of \($0)" } ?? actual
  }

  /// What follows, in words: `2.5s before`.
  static func distance(_ point: RecoveryPoint, from target: Date) -> String {
    let seconds = point.time.timeIntervalSince(target)
    guard seconds.magnitude >= 0.0005 else { return "at the moment" }
    return "\(Span.seconds(seconds.magnitude)) \(seconds < 0 ? "before" : "after")"
  }

  /// Control characters, and those that turn the direction of text, are shown as what they are: a title must not look like another one.
  static func visible(_ text: String) -> String {
    var shown = ""
    for scalar in text.unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control where scalar == "\n" || scalar == "\t": shown += " "
      case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate:
        shown += "\\u{" + String(scalar.value, radix: 16, uppercase: true) + "}"
      default: shown.unicodeScalars.append(scalar)
      }
    }
    return shown
  }

  /// Nothing in a text is markup, between tags and within quoted attributes.
  static func html(_ text: String) -> String {
    var escaped = ""
    for character in visible(text).unicodeScalars {
      switch character {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      default: escaped.unicodeScalars.append(character)
      }
    }
    return escaped
  }

  /// Nothing in a text is markup, within a line or a table's cell.
  static func markdown(_ text: String) -> String {
    var escaped = ""
    for character in visible(text).unicodeScalars {
      switch character {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\\", "`", "*", "_", "[", "]", "|", "#", "~", "!": escaped += "\\" + String(character)
      default: escaped.unicodeScalars.append(character)
      }
    }
    return escaped
  }
}
