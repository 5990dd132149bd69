import DRCore
import DRPlan
import DRStorage
import Foundation
import Testing

/// Plans, checked and simulated: no server, no storage, no waiting.
struct ProtectionPlanTests {
  private static let component = "redis/cache"
  /// A year with both changes of the clocks in it.
  private static let start = Date(timeIntervalSince1970: 1_798_761_600)  // 2027-01-01
  private static var year: Range<Date> { start..<start.addingTimeInterval(365 * 86_400) }

  private static func plan(
    rpo: Span, _ captures: [ProtectionPlan.Capture], zone: String = "Europe/Berlin",
    retention: RetentionPolicy = RetentionPolicy([.within(days: 7)])
  ) throws -> ProtectionPlan {
    ProtectionPlan(
      "test", timeZone: zone,
      platform: Objective(rto: .seconds(7200), rpo: .seconds(3600), priority: .critical),
      tiers: [
        ProtectionPlan.Tier("local", at: "/backups", retention: retention),
        ProtectionPlan.Tier("offsite", at: "s3://bucket/p", retention: RetentionPolicy([.within(days: 90)])),
      ],
      components: [
        ProtectionPlan.Protected(
          try Component(parsing: component), Objective(rto: .seconds(1800), rpo: rpo.duration, priority: .high),
          on: ["local", "offsite"], captures: captures,
          verifications: [ProtectionPlan.Verification(.restore, try CronExpression("0 1 * * sun"))])
      ])
  }

  private static func cron(_ text: String) throws -> ProtectionPlan.Schedule { .cron(try CronExpression(text)) }

  private func failures(_ plan: ProtectionPlan, measured: [Component: MeasuredRestore] = [:]) throws -> Set<String> {
    Set(try plan.findings(at: Self.start, measured: measured).filter { $0.severity == .failure }.map(\.check))
  }

  @Test("With this plan, no hour of the year has an RPO above one hour; with failures, the hours that have are named")
  func year() throws {
    let plan = try Self.plan(
      rpo: .hours(1),
      [
        .init("base backup", .full, try Self.cron("0 2 * * *"), cadence: .daily, taking: .minutes(30)),
        .init("log", .log, .continuous(within: .minutes(5))),
      ])
    let component = try Component(parsing: Self.component)
    let begin = ContinuousClock.now
    let exposure = try plan.exposure(of: component, in: Self.year)
    let worst = try #require(exposure.worst)
    #expect(worst.loss <= .minutes(10) && exposure.times(above: .hours(1)).isEmpty)
    // The log stands still from noon to four on the first day of each month, and every second backup fails.
    let calendar = {
      var calendar = Calendar(identifier: .gregorian)
      calendar.timeZone = .gmt
      return calendar
    }()
    let failing = try plan.exposure(of: component, in: Self.year) { capture, moment in
      capture.purpose == .log
        ? calendar.component(.day, from: moment) == 1 && (12..<16).contains(calendar.component(.hour, from: moment))
        : false
    }
    #expect(begin.duration(to: .now) < .seconds(20))
    let broken = failing.times(above: .hours(1))
    #expect(broken.count == 12, "one for each month")
    for time in broken {
      // From an hour behind the last durable moment until the log is back.
      #expect(calendar.component(.day, from: time.lowerBound) == 1)
      let length = time.upperBound.timeIntervalSince(time.lowerBound)
      #expect(length > 2.8 * 3600 && length < 3.3 * 3600, "\(length)")
    }
    let noon = try #require(failing.worst)
    #expect(noon.loss > .hours(3.9) && noon.loss < .hours(4.3))
  }

  @Test("Without a log, the most that is lost is an interval and a duration, and the longest is the night of 25 hours")
  func intervals() throws {
    let plan = try Self.plan(
      rpo: .hours(1), [.init("daily", .full, try Self.cron("0 4 * * *"), cadence: .daily, taking: .minutes(30))])
    let component = try Component(parsing: Self.component)
    #expect(try plan.exposure(of: component, in: Self.year).worst?.loss == .hours(25.5))
    var utc = plan
    utc.timeZone = "UTC"
    #expect(try utc.exposure(of: component, in: Self.year).worst?.loss == .hours(24.5))
    #expect(try failures(plan) == ["rpo-reachable"])
    // One that fails doubles it.
    let once = Self.start.addingTimeInterval(40 * 86_400)
    let failing = try utc.exposure(of: component, in: Self.year) { _, moment in
      abs(moment.timeIntervalSince(once)) < 12 * 3600
    }
    #expect(failing.worst?.loss == .hours(48.5))
  }

  @Test("A log without a full backup, or before it, restores nothing")
  func logAlone() throws {
    let component = try Component(parsing: Self.component)
    let log = ProtectionPlan.Capture("log", .log, .continuous(within: .minutes(1)))
    let alone = try Self.plan(rpo: .hours(1), [log])
    #expect(try alone.exposure(of: component, in: Self.year).worst == nil)
    #expect(try failures(alone).isSuperset(of: ["full-backup", "rpo-reachable"]))
    let late = try Self.plan(
      rpo: .hours(1), [log, .init("full", .full, try Self.cron("0 0 10 1 *"), taking: .hours(1))])
    let week = Self.start..<Self.start.addingTimeInterval(7 * 86_400)
    #expect(try late.exposure(of: component, in: week) { $0.purpose == .full && $1 < Self.start }.worst == nil)
    #expect(try late.exposure(of: component, in: week).worst?.loss ?? .hours(9) <= .minutes(2), "that of last year")
  }

  @Test("Every promise that cannot be kept is a finding, and a plan that keeps them has none")
  func findings() throws {
    let good = try Self.plan(
      rpo: .minutes(15),
      [
        .init("hourly", .full, try Self.cron("0 * * * *"), cadence: .hourly, taking: .minutes(5)),
        .init("changes", .log, .continuous(within: .seconds(5))),
      ])
    #expect(try failures(good).isEmpty)
    let component = try Component(parsing: Self.component)
    func broken(_ check: String, _ change: (inout ProtectionPlan) throws -> Void) throws {
      var plan = good
      try change(&plan)
      #expect(try failures(plan).contains(check), "\(check)")
      if check != "plan-names" { #expect(try failures(plan) == [check], "\(check)") }
    }
    try broken("rpo-reachable") { $0.components[0].captures.removeLast() }
    try broken("tier-present") { $0.components[0].tiers = ["local", "nowhere"] }
    try broken("plan-names") { $0.tiers[1].name = "local" }
    try broken("plan-names") { $0.tiers[1].place = "/backups" }
    try broken("plan-names") { $0.components.append($0.components[0]) }
    try broken("retention-chain") {
      $0.components[0].captures[0] = .init("yearly", .full, try Self.cron("0 0 1 * *"), taking: .minutes(5))
    }
    try broken("schedule-overlap") { $0.components[0].captures[0].duration = .minutes(90) }
    try broken("rto-reachable") { $0.tiers[0].delay = .hours(12) }
    // As it was measured, or unknown.
    let slow = [component: MeasuredRestore(bytes: 400_000_000_000, bytesPerSecond: 100_000_000, fixed: .minutes(2))]
    #expect(try failures(good, measured: slow) == ["rto-reachable"])
    let fast = [component: MeasuredRestore(bytes: 700_000_000, bytesPerSecond: 100_000_000, fixed: .minutes(2))]
    let timed = try #require(try good.findings(at: Self.start, measured: fast).first { $0.check == "rto-reachable" })
    #expect(timed.severity == .passed && timed.evidence.hasPrefix("about 2m7s from local"), "\(timed)")
    let unknown = try #require(try good.findings(at: Self.start).first { $0.check == "rto-reachable" })
    #expect(unknown.severity == .notice && unknown.evidence.contains("not known"))
    var untested = good
    untested.components[0].verifications = []
    #expect(
      try untested.findings(at: Self.start).contains { $0.check == "verification-planned" && $0.severity == .warning })
  }

  @Test("A plan is written and read back the same, and what is mistyped in it is named")
  func json() throws {
    let plan = try Self.plan(
      rpo: .minutes(15),
      [
        .init("hourly", .full, try Self.cron("0 * * * *"), cadence: .hourly, taking: .minutes(5)),
        .init("changes", .log, .continuous(within: .seconds(5))),
        .init("watch", .incremental, .onChange(within: .seconds(2))),
        .init("rewrite", .upkeep, try Self.cron("@daily")),
      ])
    let data = try JSONEncoder().encode(plan)
    #expect(try JSONDecoder().decode(ProtectionPlan.self, from: data) == plan)
    let text = String(decoding: data, as: UTF8.self)
    for (old, new, what) in [
      ("\"timeZone\":\"Europe", "\"timeZon\":\"Europe", "timeZon"), ("Berlin", "Atlantis", "Atlantis"),
      ("\"15m\"", "\"15 minutes\"", "15 minutes"),
      ("\"0 * * * *\"", "\"0 25 * * *\"", "hour"), ("\"high\"", "\"urgent\"", "urgent"),
      ("\"continuous\"", "\"always\"", "always"),
      ("redis", "Redis", "Redis"),
    ] {
      let changed = text.replacing(old, with: new)
      try #require(changed != text, "\(old)")
      let error = #expect(throws: (any Error).self) {
        try JSONDecoder().decode(ProtectionPlan.self, from: Data(changed.utf8))
      }
      #expect("\(String(describing: error))".contains(what), "\(String(describing: error))")
    }
  }

  @Test(
    "Durations are written and read as people do",
    arguments: [
      ("15m", 900.0, "15m"), ("1h30m", 5400, "1h30m"), ("90m", 5400, "1h30m"), ("7d", 604_800, "7d"),
      ("250ms", 0.25, "250ms"), ("0.5h", 1800, "30m"),
      ("0s", 0, "0s"),
    ])
  func spans(text: String, seconds: Double, written: String) throws {
    let span = try Span(text)
    #expect(span.seconds == seconds && span.description == written)
  }

  @Test(
    "What is no duration is refused",
    arguments: ["", "m", "5", "5x", "1m1h", "-5m", "1h 5m", "1e9h", "h1", "99999999999d"])
  func noSpans(text: String) {
    #expect(throws: DRError.self) { try Span(text) }
  }
}
