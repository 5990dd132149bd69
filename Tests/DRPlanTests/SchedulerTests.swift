import DRCore
import DRPlan
import DRStorage
import DRTestSupport
import Foundation
import Logging
import ServiceLifecycle
import Testing

/// The scheduler as a service: on a tier that it shares with others, shut down, killed and gone on with.
struct SchedulerTests {
  private static let quiet = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })

  private final class Seen: Sendable {
    private let lines = MutableBox<[String]>([])
    var all: [String] { lines.value }
    func note(_ line: String) { lines.withLock { $0.append(line) } }
    func count(_ line: String) -> Int { all.filter { $0 == line }.count }

    func wait(for line: String, times: Int = 1) async throws {
      try await withTimeLimit(.seconds(60), "'\(line)' in \(all)") { [self] in
        while count(line) < times { try await Task.sleep(for: .milliseconds(20)) }
      }
    }
  }

  private static func scheduler(
    _ jobs: [ScheduledJob], on tier: any StorageTier, _ seen: Seen, _ host: String, life: Span = .seconds(2)
  ) throws -> Scheduler {
    var scheduler = try Scheduler("test", jobs: jobs, timeZone: "UTC", on: tier, logger: quiet)
    scheduler.leaseLife = life
    scheduler.grace = .seconds(30)
    scheduler.onEvent = { event in
      switch event {
      case .waiting: seen.note("\(host) waits")
      case .working: seen.note("\(host) works")
      case .ended(let job, let outcome, _, _, _): seen.note("\(host) \(job) \(outcome.rawValue)")
      case .leaseLost: seen.note("\(host) lost the lease")
      case .notStored: seen.note("\(host) stored nothing")
      case .decided: break
      }
    }
    return scheduler
  }

  private static func always(_ id: String, _ body: @escaping @Sendable () async throws -> Void) -> ScheduledJob {
    ScheduledJob(
      id, .always, pause: .seconds(0.05),
      CustomAction(id) {
        try await body()
        return ""
      })
  }

  @Test("Of two hosts one works; when it is shut down the other goes on at once, and a job runs on one alone")
  func lease() async throws {
    let tier = InMemoryTier()
    let seen = Seen()
    let running = MutableBox(0)
    let job = Self.always("log") {
      running.withLock { $0 += 1 }
      defer { running.withLock { $0 -= 1 } }
      seen.note("begun with \(running.value)")
      try await Task.sleep(for: .seconds(3600))
    }
    let groups = try ["a", "b"].map { host in
      ServiceGroup(services: [try Self.scheduler([job], on: tier, seen, host)], logger: Self.quiet)
    }
    try await withThrowingTaskGroup(of: Void.self) { tasks in
      tasks.addTask { try await groups[0].run() }
      try await seen.wait(for: "a works")
      try await seen.wait(for: "begun with 1")
      tasks.addTask { try await groups[1].run() }
      try await seen.wait(for: "b waits")
      await groups[0].triggerGracefulShutdown()
      try await seen.wait(for: "b works")
      try await seen.wait(for: "begun with 1", times: 2)
      await groups[1].triggerGracefulShutdown()
      try await tasks.waitForAll()
    }
    #expect(seen.count("a log interrupted") == 1 && seen.count("begun with 2") == 0, "\(seen.all)")
    let book = try #require(try await Scheduler.book(of: "test", on: tier))
    #expect(book.jobs["log"]?.running == nil && book.jobs["log"]?.retry != nil)
  }

  @Test("A shutdown lets what runs come to its end, and begins nothing any more")
  func graceful() async throws {
    let (tier, seen) = (InMemoryTier(), Seen())
    let due = try CronExpression("* * * * *")
    let slow = ScheduledJob(
      "slow", .cron(due), missed: .catchUp,
      CustomAction("slow") {
        seen.note("slow begins")
        try await Task.sleep(for: .seconds(2))
        seen.note("slow ends")
        return "done"
      })
    try await Self.remember(slow, on: tier)
    let group = ServiceGroup(services: [try Self.scheduler([slow], on: tier, seen, "a")], logger: Self.quiet)
    try await withThrowingTaskGroup(of: Void.self) { tasks in
      tasks.addTask { try await group.run() }
      try await seen.wait(for: "slow begins")
      await group.triggerGracefulShutdown()
      try await tasks.waitForAll()
    }
    #expect(seen.all.filter { $0.contains("slow") } == ["slow begins", "slow ends", "a slow succeeded"], "\(seen.all)")
    let book = try #require(try await Scheduler.book(of: "test", on: tier))
    #expect(book.jobs["slow"]?.lastSuccess != nil && book.jobs["slow"]?.running == nil)
  }

  /// Has a tier remember a job whose runs were missed for an hour.
  private static func remember(_ job: ScheduledJob, on tier: any StorageTier) async throws {
    var book = ScheduleBook()
    book.open([job], at: Date().addingTimeInterval(-3600))
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .secondsSince1970
    _ = try await tier.put(
      try ObjectKey("schedules/test/0000000000000000.json"), ByteStream(.init(bytes: encoder.encode(book))),
      PutOptions())
  }

  @Test("A run that was cut off with its host is tried again by the next one, with what it had missed")
  func cutOff() async throws {
    let (tier, seen) = (InMemoryTier(), Seen())
    let job = ScheduledJob(
      "backup", .cron(try CronExpression("0 0 1 1 *")), missed: .catchUp,
      CustomAction("backup") {
        seen.note("begun")
        if seen.count("begun") == 1 { try await Task.sleep(for: .seconds(3600)) }
        return "done"
      })
    var book = ScheduleBook()
    book.open([job], at: Date().addingTimeInterval(-400 * 86_400))
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .secondsSince1970
    _ = try await tier.put(
      try ObjectKey("schedules/test/0000000000000000.json"), ByteStream(.init(bytes: encoder.encode(book))),
      PutOptions())
    let first = Task { try await Self.scheduler([job], on: tier, seen, "a").run() }
    try await seen.wait(for: "begun")
    // As after a crash: what is stored says that it runs.
    let stored = try #require(try await Scheduler.book(of: "test", on: tier))
    #expect(stored.jobs["backup"]?.running?.attempt == 1)
    first.cancel()
    _ = try? await first.value
    let second = Task { try await Self.scheduler([job], on: tier, seen, "b").run() }
    try await seen.wait(for: "b backup succeeded")
    second.cancel()
    _ = try? await second.value
    #expect(seen.count("begun") == 2, "\(seen.all)")
  }

  @Test("The lease of a host that died is taken over, however long its life, while the others wait")
  func takenOver() async throws {
    let (tier, seen) = (InMemoryTier(), Seen())
    let life = Span.seconds(6)
    // What a killed host leaves: its lease as it was while it worked.
    let left = try await Lease.with(
      "scheduler-test", on: tier, Lease.Settings(life: life.duration), logger: Self.quiet
    ) { _ in
      let key = try #require(try await tier.listAll(prefix: "leases/").last?.key)
      return (key, try await tier.read(key, limit: 1 << 20))
    }
    _ = try await tier.put(left.0, ByteStream(left.1), PutOptions())
    let begun = ContinuousClock.now
    let job = Self.always("log") { try await Task.sleep(for: .seconds(3600)) }
    let next = Task { try await Self.scheduler([job], on: tier, seen, "b").run() }
    try await seen.wait(for: "b works")
    #expect(begun.duration(to: .now) >= life.duration && seen.count("b waits") == 1, "\(seen.all)")
    next.cancel()
    _ = try? await next.value
  }

  @Test("A tier without conditional put, two jobs of one name and a zone that is none are refused")
  func refused() async throws {
    let job = Self.always("x") {}
    #expect(throws: DRError.self) {
      try Scheduler("test", jobs: [job, job], timeZone: "UTC", on: InMemoryTier(), logger: Self.quiet)
    }
    #expect(throws: DRError.self) {
      try Scheduler("test", jobs: [job], timeZone: "Mars/Base", on: InMemoryTier(), logger: Self.quiet)
    }
    #expect(throws: DRError.self) {
      try Scheduler("Two Words", jobs: [job], timeZone: "UTC", on: InMemoryTier(), logger: Self.quiet)
    }
    let plain = InMemoryTier(capabilities: [])
    let scheduler = try Scheduler("test", jobs: [job], timeZone: "UTC", on: plain, logger: Self.quiet)
    let error = await #expect(throws: DRError.self) { try await scheduler.run() }
    #expect(error?.code == .unsupported)
  }
}
