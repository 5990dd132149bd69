import DRCore
import DRPlan
import Foundation
import Testing

/// Schedules, against another implementation's answers and against what `cron(8)` says of clocks that change.
struct CronTests {
  private struct Answers: Decodable {
    var croniter: String
    var answers: [Answer]

    struct Answer: Decodable {
      var text: String
      var moment, next, previous: Double

      init(from decoder: any Decoder) throws {
        var fields = try decoder.unkeyedContainer()
        text = try fields.decode(String.self)
        moment = try fields.decode(Double.self)
        next = try fields.decode(Double.self)
        previous = try fields.decode(Double.self)
      }
    }
  }

  @Test("Next and previous runs are those that croniter finds")
  func reference() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "croniter-answers.json")
    let known = try JSONDecoder().decode(Answers.self, from: Data(contentsOf: file)).answers
    #expect(known.count > 600)
    for answer in known {
      let cron = try CronExpression(answer.text)
      let moment = Date(timeIntervalSince1970: answer.moment)
      let (next, previous) = (cron.next(after: moment, in: .gmt), cron.previous(before: moment, in: .gmt))
      #expect(next?.timeIntervalSince1970 == answer.next, "next of \(answer.text) after \(moment)")
      #expect(previous?.timeIntervalSince1970 == answer.previous, "previous of \(answer.text) before \(moment)")
    }
  }

  @Test("The last occurrence of a day, a day with and without its number, a leap day, and what never comes")
  func days() throws {
    func days(_ text: String, _ year: Int) throws -> [String] {
      let start = try #require(Self.utc("\(year)-01-01T00:00:00Z"))
      let runs = try CronExpression(text).runs(in: start..<start.addingTimeInterval(365 * 86_400), zone: .gmt)
      return runs.map { Timestamp.format($0).prefix(10).description }
    }
    #expect(
      try days("0 10 * * thu#L", 2026).prefix(4) == ["2026-01-29", "2026-02-26", "2026-03-26", "2026-04-30"])
    #expect(try days("0 10 1-31 * thu#1", 2026).count == 365)
    #expect(try days("0 10 * * thu#1,fri", 2026).count == 12 + 52)
    #expect(try days("0 10 * * thu#1,thu", 2026) == days("0 10 * * thu", 2026))
    let leap = try CronExpression("0 0 29 2 *")
    let before = try #require(Self.utc("2096-03-01T00:00:00Z"))
    #expect(leap.next(after: before, in: .gmt) == Self.utc("2104-02-29T00:00:00Z"))
    let old = try #require(Self.utc("1969-12-31T23:30:00Z"))
    #expect(try CronExpression("@hourly").next(after: old, in: .gmt) == Date(timeIntervalSince1970: 0))
  }

  @Test(
    "Around a change of the clocks, fixed times run once and wall times follow the wall",
    arguments: [
      // Europe/Berlin: 2026-03-29 02:00 becomes 03:00 (01:00 UTC); 2026-10-25 03:00 becomes 02:00 (01:00 UTC).
      ("30 2 * * *", "2026-03-28T12:00:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
      ("0 2 * * *", "2026-03-28T12:00:00Z", ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
      ("30 2 * * *", "2026-10-24T12:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
      ("30 3 * * *", "2026-03-28T12:00:00Z", ["2026-03-29T01:30:00Z", "2026-03-30T01:30:00Z"]),
      ("30 * * * *", "2026-03-29T00:00:00Z", ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"]),
      ("30 * * * *", "2026-10-25T00:00:00Z", ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]),
      (
        "*/30 2 * * *", "2026-10-25T00:00:00Z",
        ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:00:00Z"]
      ),
      ("*/30 2 * * *", "2026-03-28T12:00:00Z", ["2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"]),
    ])
  func clocks(text: String, start: String, expected: [String]) throws {
    let zone = try #require(TimeZone(identifier: "Europe/Berlin"))
    let cron = try CronExpression(text)
    let wanted = try expected.map { try #require(Self.utc($0)) }
    var moment = try #require(Self.utc(start))
    var found: [Date] = []
    for _ in wanted {
      let next = try #require(cron.next(after: moment, in: zone))
      #expect(cron.previous(before: next.addingTimeInterval(1), in: zone) == next)
      found.append(next)
      moment = next
    }
    #expect(found == wanted, "\(text)")
  }

  @Test("Lord Howe changes by half an hour, and Kolkata is half an hour off")
  func oddZones() throws {
    let howe = try #require(TimeZone(identifier: "Australia/Lord_Howe"))
    // 2026-10-04 02:00 becomes 02:30 there, 15:30 UTC of the day before.
    let before = try #require(Self.utc("2026-10-03T12:00:00Z"))
    #expect(try CronExpression("15 2 * * *").next(after: before, in: howe) == Self.utc("2026-10-03T15:30:00Z"))
    let kolkata = try #require(TimeZone(identifier: "Asia/Kolkata"))
    #expect(try CronExpression("0 2 * * *").next(after: before, in: kolkata) == Self.utc("2026-10-03T20:30:00Z"))
  }

  @Test("Next and previous are each other's reverse, whatever the zone, and agree with the runs of a range")
  func consistency() throws {
    var random = SystemRandomNumberGenerator()
    for name in ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"] {
      let zone = try #require(TimeZone(identifier: name))
      for text in ["30 2 * * *", "*/20 1-3 * * *", "0 0 * * sun", "15 2 1 * *", "@hourly"] {
        let cron = try CronExpression(text)
        let start = Date(timeIntervalSince1970: Double(Int.random(in: 1_600_000_000...1_900_000_000, using: &random)))
        let range = start..<start.addingTimeInterval(200 * 86_400)
        let runs = cron.runs(in: range, zone: zone)
        #expect(runs == runs.sorted() && Set(runs).count == runs.count && !runs.isEmpty)
        for (run, after) in zip(runs, runs.dropFirst()).prefix(300) {
          #expect(cron.next(after: run, in: zone) == after, "\(text) in \(name) after \(run)")
          #expect(cron.previous(before: after, in: zone) == run, "\(text) in \(name) before \(after)")
        }
      }
    }
  }

  @Test(
    "What is no schedule is refused, with the field",
    arguments: [
      ("", "0 fields"), ("* * * *", "4 fields"), ("60 * * * *", "minute"), ("* 24 * * *", "hour"),
      ("* * 0 * *", "day of the month"),
      ("* * * 13 *", "month"), ("* * * * 8", "day of the week"), ("*/0 * * * *", "step"),
      ("5-1 * * * *", "ends before"),
      ("a * * * *", "minute"), ("1,,2 * * * *", "minute"), ("* * * foo *", "month"), ("@often", "no schedule"),
      ("@daily 1", "no schedule"),
      ("0 0 30 2 *", "no such day"), ("0 0 31 4,6 *", "no such day"), ("0 0 * * thu#6", "#"), ("0 0 * * #1", "week"),
      ("-1 * * * *", "minute"),
      ("* * * * mon-sun#1", "#"), ("+1 * * * *", "minute"), ("* * * * *;x", "week"),
    ])
  func refused(text: String, what: String) {
    let error = #expect(throws: DRError.self) { try CronExpression(text) }
    #expect(
      error?.code == .invalidConfiguration && error?.message.contains(what) == true, "\(String(describing: error))")
  }

  private static func utc(_ text: String) -> Date? { ISO8601DateFormatter().date(from: text) }
}
