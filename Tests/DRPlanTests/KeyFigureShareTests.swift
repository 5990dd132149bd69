import DRCore
import DRPlan
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// What the key figures say of copies and of retention, from repositories as they are.
@Suite struct KeyFigureShareTests {
  private static let logger = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })
  private static let now = Date(timeIntervalSince1970: 1_790_000_000)
  private static let day = 86_400.0

  private struct Source: BackupSource {
    var component: Component
    var time: Date

    func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
      try await writer.write("data", ByteStream(TestData.rows(3_000)), expectedLength: nil)
      return Capture(recoveryPoint: RecoveryPoint(time: time, position: "1"), method: .dump)
    }
  }

  /// Under a clock, with a line of the audit trail for each backup, as the programs write it.
  private struct Place {
    let clock = MutableBox(KeyFigureShareTests.now)
    let near: InMemoryTier
    let far: InMemoryTier
    let component: Component

    init() throws {
      let clock = clock
      near = InMemoryTier(name: "near", now: { clock.value })
      far = InMemoryTier(name: "far", now: { clock.value })
      component = try Component(.redis, "cache")
    }

    func repository(_ tier: InMemoryTier) -> Repository {
      let clock = clock
      return Repository(tier: tier, now: { clock.value })
    }

    @discardableResult
    func backUp(daysAgo days: Double) async throws -> BackupManifest {
      clock.withLock { $0 = now.addingTimeInterval(-days * day) }
      defer { clock.withLock { $0 = now } }
      let time = clock.value
      let manifest = try await repository(near).backUp(
        Source(component: component, time: time), cadence: .daily, logger: logger)
      let trail = AuditTrail(on: near, by: Operator(name: "ada", host: "db1", program: "dr-redis"), now: { time })
      try await trail.note("backup", of: component, object: manifest.id, .done)
      return manifest
    }

    func replicate() async throws {
      _ = try await Replicator(from: repository(near), to: repository(far)).run(logger: logger)
    }

    func copies(_ unreachable: Int = 0) async -> KeyFigures.Share {
      .copies(await ReplicationStatus.of([repository(near), repository(far)]), unreachable: unreachable, now: now)
    }

    func retained(_ policy: RetentionPolicy) async throws -> KeyFigures.Share {
      try await .retained(
        in: repository(near), by: policy, operations: AuditTrail.read(on: near).records, now: now)
    }
  }

  @Test("Each backup must be whole on each copy, once it had the time to get there")
  func copies() async throws {
    let place = try Place()
    for days in [5.0, 4, 3] { try await place.backUp(daysAgo: days) }
    #expect(await place.copies() == .init(0, of: 3))
    try await place.replicate()
    #expect(await place.copies() == .init(3, of: 3))
    // What was made a moment ago is on its way; an hour later than it may be, it is missing.
    try await place.backUp(daysAgo: 1.0 / 24)
    #expect(await place.copies() == .init(3, of: 3))
    let late = try await place.backUp(daysAgo: 3.0 / 24)
    #expect(await place.copies() == .init(3, of: 4))
    try await place.replicate()
    #expect(await place.copies() == .init(4, of: 4))
    try await place.far.delete(late.artifacts[0].key)
    #expect(await place.copies() == .init(3, of: 4))
    #expect(await place.copies(1) == .init(3, of: 8))
    let figures = KeyFigures(copies: await place.copies(), now: Self.now)
    #expect(figures.all.first { $0.id == "upload-success" }?.state == .missed)
  }

  @Test("Kept is what a rule keeps, marked or gone what none does, and what is gone before its time is missed")
  func retention() async throws {
    let place = try Place()
    let week = RetentionPolicy([.within(days: 7)])
    var made: [BackupManifest] = []
    for days in [6.0, 5, 4] { made.append(try await place.backUp(daysAgo: days)) }
    #expect(try await place.retained(week) == .init(3, of: 3))
    // A day over its time, pruning has another day to mark it; later, it should have been.
    try await place.backUp(daysAgo: 8)
    #expect(try await place.retained(week) == .init(4, of: 4))
    let old = try await place.backUp(daysAgo: 30)
    #expect(try await place.retained(week) == .init(4, of: 5))
    try await Lease.with("prune", on: place.near, logger: Self.logger) { lease in
      _ = try await place.repository(place.near).prune(week, lease: lease, logger: Self.logger)
    }
    // Marked, with its time of grace.
    #expect(try await place.retained(week) == .init(5, of: 5))
    // What the rule keeps, and somebody has removed: the catalogue does not know of it, the audit trail does.
    try await place.near.delete(ObjectKey("redis/metadata/\(made[1].id).json"))
    #expect(try await place.retained(week) == .init(4, of: 5))
    // Whose artifacts are gone.
    try await place.near.delete(made[2].artifacts[0].key)
    #expect(try await place.retained(week) == .init(3, of: 5))
    // Of a rule that counts nobody can say what it would have kept.
    let count = RetentionPolicy([.newest(100)])
    let counted = try await place.retained(count)
    #expect(counted == .init(3, of: 4), "\(counted) \(old.id)")
  }
}
