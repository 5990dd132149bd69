import DRCore

/// When something is to run, as `crontab(5)` writes it: minute, hour, day of the month, month, day of the week.
///
///     0 2 * * *        at 02:00 each day
///     */15 * * * *     each quarter of an hour
///     30 1 * * mon-fri at 01:30 from Monday to Friday
///     0 10 * * thu#1   at 10:00 on the first Thursday of the month (`thu#L`: on the last)
///     @hourly          @daily, @midnight, @weekly, @monthly, @yearly, @annually
///
/// A field is a list of numbers, names (`jan`, `mon`), ranges and steps (`0-30/10`); 0 and 7 are Sunday. Where both the day of the month and
/// the day of the week are limited, either suffices (as in Vixie cron; a field that begins with `*` limits nothing here).
///
/// Across daylight-saving changes as `cron(8)` of Debian has it: what has fixed hours and minutes runs once, also if its time is skipped (then
/// right after the gap) or comes twice (then at the first); what has a `*` in front of its hours or minutes goes by the clock on the
/// wall, and so twice through an hour that comes twice.
public struct CronExpression: Hashable, Sendable, CustomStringConvertible {
  public let text: String
  let minutes: CronField
  let hours: CronField
  let days: CronField
  let months: CronField
  let weekdays: CronField
  /// Of a week day, the occurrences within the month that are meant: 1 to 5, or -1 for the last; nil: all.
  let occurrences: [Int: Set<Int>]

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`, naming the field; also for a day that never comes, as the 30th of February.
  public init(_ text: String) throws {
    let trimmed = text.split(whereSeparator: \.isWhitespace).map { $0.lowercased() }
    self.text = text
    var fields = trimmed
    if let name = trimmed.first, name.hasPrefix("@") {
      guard trimmed.count == 1, let known = Self.nicknames[name] else {
        throw Self.refuse(
          text, "'\(name.prefix(20))' is no schedule", "use @hourly, @daily, @weekly, @monthly or @yearly")
      }
      fields = known.split(separator: " ").map(String.init)
    }
    guard fields.count == 5 else {
      throw Self.refuse(
        text, "it has \(fields.count) fields, not 5", "write minute, hour, day of the month, month, day of the week")
    }
    do {
      minutes = try CronField(fields[0], "minute", 0...59)
      hours = try CronField(fields[1], "hour", 0...23)
      days = try CronField(fields[2], "day of the month", 1...31)
      months = try CronField(fields[3], "month", 1...12, names: Self.monthNames)
      var plain: [String] = []
      var occurrences: [Int: Set<Int>] = [:]
      for part in fields[4].split(separator: ",", omittingEmptySubsequences: false).map(String.init) {
        guard let mark = part.firstIndex(of: "#") else {
          plain.append(part)
          continue
        }
        let (day, number) = try Self.occurrence(part[..<mark], part[part.index(after: mark)...])
        occurrences[day, default: []].insert(number)
      }
      // A day that is named without a number is meant each time.
      let whole = plain.isEmpty ? nil : try Self.weekdays(plain.joined(separator: ","))
      for day in whole?.values ?? [] { occurrences[day] = nil }
      self.occurrences = occurrences
      weekdays = CronField(
        values: (whole?.values ?? []).union(occurrences.keys), isWild: (whole?.isWild ?? false) && occurrences.isEmpty)
    } catch let error as DRError {
      throw Self.refuse(text, error.message, error.advice)
    }
    guard Self.comes(days, months, weekdays) else {
      throw Self.refuse(text, "there is no such day in these months", nil)
    }
  }

  public var description: String { text }

  private static let nicknames = [
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
  ]
  private static let monthNames = Dictionary(
    uniqueKeysWithValues: zip(
      ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1...12))
  private static let dayNames = Dictionary(
    uniqueKeysWithValues: zip(["sun", "mon", "tue", "wed", "thu", "fri", "sat"], 0...6))

  /// 7 is Sunday, too.
  private static func weekdays(_ text: String) throws -> CronField {
    let field = try CronField(text, "day of the week", 0...7, names: dayNames)
    return CronField(values: Set(field.values.map { $0 % 7 }), isWild: field.isWild)
  }

  private static func occurrence(_ day: Substring, _ number: Substring) throws -> (day: Int, number: Int) {
    let field = try weekdays(String(day))
    let number = number == "l" ? -1 : Int(number) ?? 0
    guard field.values.count == 1, let day = field.values.first, number == -1 || (1...5).contains(number) else {
      throw DRError(
        .invalidConfiguration, "the day of the week has a '#' that is not understood",
        advice: "write thu#1 for the first Thursday of the month, thu#L for the last")
    }
    return (day, number)
  }

  private static func comes(_ days: CronField, _ months: CronField, _ weekdays: CronField) -> Bool {
    guard !days.isWild, weekdays.isWild, let first = days.values.min() else { return true }
    return months.values.contains { first <= ($0 == 2 ? 29 : [4, 6, 9, 11].contains($0) ? 30 : 31) }
  }

  private static func refuse(_ text: String, _ what: String, _ advice: String?) -> DRError {
    DRError(.invalidConfiguration, "the schedule '\(text.prefix(80))' is not right: \(what)", advice: advice)
  }

  /// Whether it runs on a day.
  func includes(_ day: CivilDay) -> Bool {
    guard months.values.contains(day.month) else { return false }
    let isDay = days.values.contains(day.day)
    let isWeekday = weekdays.values.contains(day.weekday) && isOccurrence(day)
    if days.isWild { return isWeekday }
    return weekdays.isWild ? isDay : isDay || isWeekday
  }

  private func isOccurrence(_ day: CivilDay) -> Bool {
    guard let wanted = occurrences[day.weekday] else { return true }
    return wanted.contains((day.day - 1) / 7 + 1) || wanted.contains(-1) && day.day + 7 > day.daysInMonth
  }

  /// Whether it goes by the clock on the wall, rather than to run once at fixed times.
  var followsClock: Bool { hours.isWild || minutes.isWild }
}

extension CronExpression: Codable {
  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text)
  }
}

/// What one field of a schedule allows.
struct CronField: Hashable, Sendable {
  var values: Set<Int>
  /// Whether it begins with `*`.
  var isWild: Bool

  var sorted: [Int] { values.sorted() }

  init(values: Set<Int>, isWild: Bool) {
    self.values = values
    self.isWild = isWild
  }

  init(_ text: String, _ name: String, _ range: ClosedRange<Int>, names: [String: Int] = [:]) throws {
    func refuse(_ what: String) -> DRError {
      DRError(
        .invalidConfiguration, "the \(name) '\(text.prefix(40))' \(what)",
        advice: "it is *, or a list of numbers from \(range.lowerBound) to \(range.upperBound), ranges and steps"
          + (names.isEmpty ? "" : ", or of names such as \(names.min { $0.value < $1.value }?.key ?? "")"))
    }
    func number(_ text: Substring) throws -> Int {
      let value = names[String(text)] ?? (text.allSatisfy(\.isASCII) && text.first != "+" ? Int(text) : nil)
      guard let value, range.contains(value) else { throw refuse("has '\(text.prefix(20))', which is none") }
      return value
    }
    values = []
    isWild = text.hasPrefix("*")
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let halves = part.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
      var step = 1
      if halves.count == 2 {
        guard let parsed = Int(halves[1]), parsed > 0, parsed <= range.upperBound - range.lowerBound + 1 else {
          throw refuse("has the step '\(halves[1].prefix(20))'")
        }
        step = parsed
      }
      let bounds: ClosedRange<Int>
      let ends = halves[0].split(separator: "-", omittingEmptySubsequences: false)
      if halves[0] == "*" {
        bounds = range
      } else if ends.count == 2 {
        let (first, last) = (try number(ends[0]), try number(ends[1]))
        guard first <= last else { throw refuse("has a range that ends before it begins") }
        bounds = first...last
      } else if halves.count == 2 {
        // As Vixie cron: 5/20 is 5-59/20.
        bounds = try number(halves[0])...range.upperBound
      } else {
        let value = try number(halves[0])
        bounds = value...value
      }
      values.formUnion(stride(from: bounds.lowerBound, through: bounds.upperBound, by: step))
    }
  }
}
