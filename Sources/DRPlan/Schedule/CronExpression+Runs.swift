public import struct Foundation.Date
public import struct Foundation.TimeZone

extension CronExpression {
  /// The first moment behind another one at which it runs; nil: not within nine years (as the 29th of February, around 2100).
  public func next(after moment: Date, in zone: TimeZone) -> Date? { run(from: moment, in: zone, step: 1) }

  /// The last moment before another one at which it ran; nil: not within nine years.
  public func previous(before moment: Date, in zone: TimeZone) -> Date? { run(from: moment, in: zone, step: -1) }

  private static let days = 366 * 9

  private func run(from moment: Date, in zone: TimeZone, step: Int) -> Date? {
    let clock = WallClock(zone)
    // A day before, for a gap may move a time of the day before into this one.
    var day = clock.day(of: moment) - step
    for _ in 0...Self.days {
      let runs = runs(on: CivilDay(number: day), clock)
      let found = step > 0 ? runs.first { $0 > moment } : runs.last { $0 < moment }
      if let found { return found }
      day += step
    }
    return nil
  }

  /// Every moment within a range at which it runs, in order.
  public func runs(in range: Range<Date>, zone: TimeZone) -> [Date] {
    let clock = WallClock(zone)
    let days = (clock.day(of: range.lowerBound) - 1)...(clock.day(of: range.upperBound) + 1)
    return days.flatMap { runs(on: CivilDay(number: $0), clock) }.filter { range.contains($0) }
  }

  /// The moments of one day on the wall, in order, each once.
  private func runs(on day: CivilDay, _ clock: WallClock) -> [Date] {
    guard includes(day) else { return [] }
    if let offset = clock.constantOffset(on: day.number) {
      return hours.sorted.flatMap { hour in
        minutes.sorted.map { minute in
          Date(timeIntervalSince1970: Double(day.number * 86_400 + hour * 3600 + minute * 60 - offset))
        }
      }
    }
    var runs: Set<Date> = []
    for hour in hours.values {
      for minute in minutes.values {
        let wall = day.number * 86_400 + hour * 3600 + minute * 60
        let moments = clock.moments(of: wall)
        switch (moments.count, followsClock) {
        case (0, false): runs.insert(clock.endOfGap(at: wall))
        case (0, true): continue
        case (_, false): runs.insert(moments[0])
        case (_, true): runs.formUnion(moments)
        }
      }
    }
    return runs.sorted()
  }
}

/// What the clocks of a time zone show, and when. Wall times are seconds since 1970-01-01 00:00 on the wall.
struct WallClock {
  private let zone: TimeZone

  init(_ zone: TimeZone) { self.zone = zone }

  private func offset(at seconds: Int) -> Int {
    zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(seconds)))
  }

  func day(of moment: Date) -> Int {
    let seconds = Int(moment.timeIntervalSince1970.rounded(.down))
    let wall = seconds + offset(at: seconds)
    return (wall >= 0 ? wall : wall - 86_399) / 86_400
  }

  /// Nil if the clocks are changed on a day, or near it.
  func constantOffset(on day: Int) -> Int? {
    let before = offset(at: (day - 1) * 86_400)
    return before == offset(at: (day + 2) * 86_400) ? before : nil
  }

  /// None for a time that is skipped, two for one that comes twice.
  func moments(of wall: Int) -> [Date] {
    // No offset is more than 14 hours, and none changes twice within two days.
    let offsets = Set([offset(at: wall - 86_400), offset(at: wall + 86_400)])
    return offsets.map { wall - $0 }.filter { offset(at: $0) == wall - $0 }.sorted()
      .map { Date(timeIntervalSince1970: Double($0)) }
  }

  /// When the clocks go on, behind a wall time that is skipped.
  func endOfGap(at wall: Int) -> Date {
    let before = offset(at: wall - 86_400)
    var (low, high) = (wall - 86_400 - before, wall + 86_400 - before)
    while high - low > 1 {
      let middle = (low + high) / 2
      if offset(at: middle) == before { low = middle } else { high = middle }
    }
    return Date(timeIntervalSince1970: Double(high))
  }
}
