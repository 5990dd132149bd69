import DRCore
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import Logging
import NIOCore
import Testing

struct ReplicationTests {
  /// A repository with two backups and a log, and an empty one on another tier.
  private struct Bench {
    let clock = TestClock()
    let near: any StorageTier
    let far: any StorageTier
    var source: Repository { Repository(tier: near, now: clock.now) }
    var backups: [BackupManifest] = []

    init(near: any StorageTier, far: any StorageTier) async throws {
      self.near = near
      self.far = far
      for seed in 1...2 as ClosedRange<UInt64> {
        let store = try ChangeLogStore(tier: near, component: .postgres("app"), systemIdentifier: "7301")
        for number in 0..<3 {
          _ = try await store.put("00000001000000000000000\(seed)-\(number)", TestData.rows(20_000, seed: seed))
        }
        backups.append(
          try await source.backUp(
            MemorySource.sample(.postgres("app"), seed: seed * 10), cadence: .daily, encoding: smallFrames,
            logger: quiet))
        clock.advance(60)
      }
    }

    func target(_ tier: (any StorageTier)? = nil) -> Repository { Repository(tier: tier ?? far, now: clock.now) }

    func replicate(_ tier: (any StorageTier)? = nil, from: (any StorageTier)? = nil) async throws -> ReplicationOutcome
    {
      try await Replicator(from: Repository(tier: from ?? near, now: clock.now), to: target(tier)).run(logger: quiet)
    }

    /// The other tier has exactly what the first one has.
    func expectCopy(on other: any StorageTier, _ comment: Comment? = nil) async throws {
      let (copied, original) = (try await stored(other), try await stored(near))
      #expect(copied == original, comment)
    }

    /// Every object, but for what belongs to one tier alone.
    func stored(_ tier: any StorageTier) async throws -> [String: ByteBuffer] {
      var all: [String: ByteBuffer] = [:]
      for key in try await tier.keys("postgres/") where !key.contains("/replicas/") {
        all[key] = try await tier.read(ObjectKey(key))
      }
      return all
    }
  }

  private func flip(_ key: ObjectKey, on tier: any StorageTier) async throws {
    var content = try await tier.read(key)
    let middle = content.readableBytes / 2
    content.setInteger((content.getInteger(at: middle, as: UInt8.self) ?? 0) ^ 1, at: middle)
    _ = try await tier.put(key, ByteStream(content), PutOptions())
  }

  @Test("Everything is copied byte for byte, once, and each tier says what it has and when it was seen")
  func copies() async throws {
    try await withLocalTier { near, _ in
      try await withLocalTier { far, _ in
        let bench = try await Bench(near: near, far: far)
        let outcome = try await bench.replicate()
        #expect(outcome.failures.isEmpty)
        #expect(Set(outcome.backups) == Set(bench.backups.map(\.id)) && outcome.segments == 6)
        try await bench.expectCopy(on: far)
        let again = try await bench.replicate()
        #expect(again.backups.isEmpty && again.segments == 0 && again.bytes == 0)

        let status = await ReplicationStatus.of([bench.source, bench.target()])
        #expect(status.rows.count == 2 && status.unreachable.isEmpty)
        for row in status.rows {
          #expect(row.places[0] == .whole(verified: nil, archived: false))
          guard case .whole(let verified?, false) = row.places[1] else {
            Issue.record("\(row.places[1])")
            continue
          }
          #expect(abs(verified.timeIntervalSince(bench.clock.now())) < 1)
        }
        try await far.delete(bench.backups[0].artifacts[0].key)
        let torn = await ReplicationStatus.of([bench.source, bench.target()])
        #expect(torn.rows[0].places[1] == .torn(missing: 1))
        // What is missing, cut or cannot be read there is sent again; a byte that changed, when all is read back.
        try await bench.replicate().expectGood(1)
        try await bench.expectCopy(on: far)
        let artifact = bench.backups[1].artifacts[0]
        _ = try await far.put(
          artifact.key, ByteStream(far.read(artifact.key).getSlice(at: 0, length: 10) ?? .init()), PutOptions())
        try await bench.replicate().expectGood(1)
        try await bench.expectCopy(on: far)
        let manifest = try ObjectKey("postgres/metadata/\(bench.backups[1].id).json")
        try await flip(manifest, on: far)
        let unreadable = await ReplicationStatus.of([bench.source, bench.target()])
        #expect(unreadable.unreadable[far.name]?.map(\.key) == [manifest])
        try await bench.replicate().expectGood(1)
        try await bench.expectCopy(on: far)
        for key in [artifact.key, try #require(try await far.listAll(prefix: "postgres/wal/").first?.key)] {
          try await flip(key, on: far)
        }
        try await bench.replicate().expectGood(0)
        var settings = Replicator.Settings()
        settings.readsBackAll = true
        let all = try await Replicator(from: bench.source, to: bench.target(), settings: settings).run(logger: quiet)
        #expect(all.failures.isEmpty && all.segments == 1 && all.backups == [bench.backups[1].id])
        #expect(all.readBack == 6 + bench.backups.flatMap(\.artifacts).count && all.damaged.count == 2)
        #expect(all.mended.sorted() == all.damaged.sorted() && all.damaged.contains(artifact.key))
        try await bench.expectCopy(on: far)
      }
    }
  }

  @Test("A segment that is damaged at the source, or may be, never takes the place of the one on the other tier")
  func contestedSegments() async throws {
    for isEncrypted in [false, true] {
      let bench = try await Bench(near: InMemoryTier(), far: InMemoryTier())
      var encoding = Encoding()
      if isEncrypted { encoding.recipients = [try #require(AgeIdentity.generate().recipient)] }
      let store = try ChangeLogStore(tier: bench.near, component: .postgres("app"), systemIdentifier: "7301")
      _ = try await store.put("000000010000000000000002-7", TestData.rows(20_000, seed: 7), encoding: encoding)
      try await bench.replicate().expectGood(2)
      let key = try #require(
        try await bench.near.listAll(prefix: "postgres/wal/").map(\.key).first { $0.rawValue.contains("2-7-") })
      let good = try await bench.far.read(key)
      var settings = Replicator.Settings()
      settings.readsBackAll = true
      for readsBackAll in [false, true] {
        if readsBackAll {
          _ = try await bench.near.put(key, ByteStream(good), PutOptions())
          try await flip(key, on: bench.near)
        } else {
          let cut = try #require(good.getSlice(at: good.readerIndex, length: 100))
          _ = try await bench.near.put(key, ByteStream(cut), PutOptions())
        }
        settings.readsBackAll = readsBackAll
        let outcome = try await Replicator(from: bench.source, to: bench.target(), settings: settings)
          .run(logger: quiet)
        #expect(outcome.failures.keys.contains(key) && outcome.failures[key]?.code == .corruptData)
        #expect(try await bench.far.read(key) == good, "\(isEncrypted) \(readsBackAll)")
      }
      // The other way round: only where the one here is seen to be whole, it mends the other.
      _ = try await bench.near.put(key, ByteStream(good), PutOptions())
      try await flip(key, on: bench.far)
      let mended = try await Replicator(from: bench.source, to: bench.target(), settings: settings).run(logger: quiet)
      #expect(mended.failures.isEmpty != isEncrypted)
      #expect(try await (bench.far.read(key) == good) != isEncrypted)
    }
  }

  @Test("Interrupted at any call, a copy is committed whole or not at all, and the next run ends it")
  func interrupted() async throws {
    let counting = FaultInjectingTier(InMemoryTier(), failing: 0, .before)
    let first = try await Bench(near: InMemoryTier(), far: counting)
    _ = try await first.replicate()
    var cases = 0
    for call in 1...counting.calls.count {
      for fault in FaultInjectingTier.Fault.failing {
        for killing in [false, true] {
          let bench = try await Bench(near: InMemoryTier(), far: InMemoryTier())
          let faulty = FaultInjectingTier(bench.far, failing: call, fault, killing: killing)
          _ = try? await bench.replicate(faulty)
          let comment = Comment(rawValue: "\(killing ? "killed" : "failing") \(fault) call \(call)")
          let catalog = try await bench.target().catalog()
          #expect(catalog.unreadable.isEmpty, comment)
          for backup in catalog.backups {
            #expect(bench.backups.contains(backup), comment)
            _ = try await bench.target().contents(backup)
          }
          let outcome = try await bench.replicate()
          #expect(outcome.failures.isEmpty, comment)
          try await bench.expectCopy(on: bench.far, comment)
          cases += 1
        }
      }
    }
    #expect(cases > 150)
  }

  @Test("Damage at the source, or on the way, is never stored as a good copy")
  func damage() async throws {
    for flipped in ["base.tar", "backup_manifest", "-0"] {
      let bench = try await Bench(near: InMemoryTier(), far: InMemoryTier())
      // Reading one object wrong, with no error.
      let lying = FaultInjectingTier(bench.near) { call in
        call.kind == .get && call.subject.contains(flipped) ? .flipBit(at: 100) : nil
      }
      let outcome = try await bench.replicate(from: lying)
      if flipped == "-0" {
        // Of a segment the stored bytes have no digest: it is a copy of what was read, and its frame tells.
        let store = try ChangeLogStore(tier: bench.far, component: .postgres("app"), systemIdentifier: "7301")
        #expect(await code { _ = try await store.get("000000010000000000000001-0") } == .corruptData)
      } else {
        #expect(outcome.failures.count == 2 && outcome.failures.values.allSatisfy { $0.code == .corruptData })
        #expect(try await bench.target().catalog().backups.isEmpty)
      }
      // A tier that stores one bit wrong.
      let other = try await Bench(near: InMemoryTier(), far: InMemoryTier())
      let forgetful = FaultInjectingTier(other.far) { call in
        call.kind == .put && call.subject.contains("base.tar") ? .flipBit(at: 300) : nil
      }
      let stored = try await other.replicate(forgetful)
      #expect(stored.failures.count == 2 && stored.backups.isEmpty)
      #expect(try await other.replicate().backups.count == 2)
      for backup in other.backups { _ = try await other.target().contents(backup) }
    }
  }

  @Test(
    "What the other tier's retention has removed is not brought back, and segments that nobody needs do not go along")
  func retention() async throws {
    // The age of a mark is told by the tier's clock.
    let bench = try await Bench(near: InMemoryTier(), far: InMemoryTier(now: TestClock().now))
    _ = try await bench.replicate()
    for _ in 0..<2 {
      _ = try await bench.target().prune(RetentionPolicy([.newest(1)]), grace: .zero, logger: quiet)
    }
    #expect(try await bench.target().catalog().backups == [bench.backups[1]])
    let outcome = try await bench.replicate()
    #expect(outcome.backups.isEmpty && outcome.leftOut == [bench.backups[0].id])
    let status = await ReplicationStatus.of([bench.source, bench.target()])
    #expect(status.rows[0].places[1] == .removed)
  }

  @Test("To an archive: manifests stay readable, artifacts are frozen and verified as they were sent")
  func archive() async throws {
    let near = InMemoryTier()
    let clock = TestClock()
    let far = InMemoryTier(now: clock.now)
    let bench = try await Bench(near: near, far: far)
    var settings = Replicator.Settings()
    settings.storageClass = .deepArchive
    settings.lock = RetentionPolicy.Lock(.compliance, days: 30)
    let target = Repository(tier: far, now: clock.now)
    let outcome = try await Replicator(from: bench.source, to: target, settings: settings).run(logger: quiet)
    #expect(outcome.failures.isEmpty && outcome.backups.count == 2)
    let catalog = try await target.catalog()
    #expect(catalog.backups == bench.backups)
    let key = catalog.backups[0].artifacts[0].key
    #expect(try await far.head(key)?.archive == .archived)
    #expect(await code { _ = try await target.contents(catalog.backups[0]) } == .objectArchived)
    #expect(await code { try await far.delete(key) } == .objectLocked)
    let status = await ReplicationStatus.of([target])
    #expect(status.rows.allSatisfy { $0.places == [.whole(verified: clock.now(), archived: true)] })
    // What is archived is neither read back nor sent again.
    settings.readsBackAll = true
    let again = try await Replicator(from: bench.source, to: target, settings: settings).run(logger: quiet)
    #expect(again.failures.isEmpty && again.bytes == 0 && again.backups.isEmpty && again.readBack == 0)
    #expect(again.archived == 6 + bench.backups.flatMap(\.artifacts).count)
    // Thawed in one batch, then read.
    let failures = try await far.thaw(catalog.backups.flatMap { $0.artifacts.map(\.key) }, days: 2, speed: .bulk)
    #expect(failures.isEmpty)
    #expect(try await far.head(key)?.archive == .thawing)
    clock.advance(13 * 3600)
    for backup in catalog.backups { _ = try await target.contents(backup) }
    clock.advance(3 * 86_400)
    #expect(await code { _ = try await target.contents(catalog.backups[0]) } == .objectArchived)
  }

  @Test("A partial segment whose copy is damaged is found by reading back, and sent again")
  func damagedPartial() async throws {
    let bench = try await Bench(near: InMemoryTier(), far: InMemoryTier())
    let store = try ChangeLogStore(tier: bench.near, component: .postgres("app"), systemIdentifier: "7301")
    _ = try await store.putPartial("000000010000000000000009", TestData.rows(10_000))
    try await bench.replicate().expectGood(2)
    let key = try #require(try await bench.far.listAll(prefix: "postgres/wal/").map(\.key).last)
    #expect(key.rawValue.contains(".partial"))
    try await flip(key, on: bench.far)
    var settings = Replicator.Settings()
    settings.readsBackAll = true
    let outcome = try await Replicator(from: bench.source, to: bench.target(), settings: settings).run(logger: quiet)
    #expect(outcome.failures.isEmpty && outcome.damaged == [key] && outcome.mended == [key])
    try await bench.expectCopy(on: bench.far)
  }

  @Test(
    "A partial segment that is damaged at the source, or may be, never takes the place of the one on the other tier")
  func contestedPartials() async throws {
    for isEncrypted in [false, true] {
      let bench = try await Bench(near: InMemoryTier(), far: InMemoryTier())
      var encoding = Encoding()
      if isEncrypted { encoding.recipients = [try #require(AgeIdentity.generate().recipient)] }
      let store = try ChangeLogStore(tier: bench.near, component: .postgres("app"), systemIdentifier: "7301")
      _ = try await store.putPartial("000000010000000000000009", TestData.rows(10_000), encoding: encoding)
      try await bench.replicate().expectGood(2)
      let key = try #require(try await bench.far.listAll(prefix: "postgres/wal/").map(\.key).last)
      let good = try await bench.far.read(key)
      // Not by a put, which would make it a newer one.
      let damaged = DamagedTier(bench.near, damaging: key, at: Int64(good.readableBytes / 2))
      var settings = Replicator.Settings()
      settings.readsBackAll = true
      let outcome = try await Replicator(
        from: Repository(tier: damaged, now: bench.clock.now), to: bench.target(), settings: settings
      ).run(logger: quiet)
      #expect(outcome.failures[key]?.code == .corruptData && outcome.mended.isEmpty, "\(isEncrypted)")
      #expect(try await bench.far.read(key) == good, "\(isEncrypted)")
    }
  }

  @Test("A partial segment that has become full goes from the other tier too")
  func partials() async throws {
    let bench = try await Bench(near: InMemoryTier(), far: InMemoryTier())
    let store = try ChangeLogStore(tier: bench.near, component: .postgres("app"), systemIdentifier: "7301")
    try await store.putPartial("000000010000000000000005.00000100", TestData.rows(256))
    #expect(try await bench.replicate().segments == 7)
    try await store.putPartial("000000010000000000000005.00000200", TestData.rows(512))
    try await store.deletePartial("000000010000000000000005.00000100")
    #expect(try await bench.replicate().segments == 1)
    _ = try await store.put("000000010000000000000005", TestData.rows(1024))
    try await store.deletePartial("000000010000000000000005.00000200")
    _ = try await store.put("000000010000000000000006", TestData.rows(1024))
    #expect(try await bench.replicate().failures.isEmpty)
    try await bench.expectCopy(on: bench.far)
  }

  @Test("A bandwidth is kept to")
  func bandwidth() async throws {
    let bench = try await Bench(near: InMemoryTier(), far: InMemoryTier())
    let clock = StepClock()
    let limited = RateLimitedTier(bench.far, upload: 1000, clock: clock)
    let outcome = try await bench.replicate(limited)
    // The last buffers are not paid for.
    #expect(clock.slept >= .seconds(Double(outcome.bytes) / 2000))
  }
}

/// A clock on which sleeping is all that takes time.
final class StepClock: Clock {
  struct Instant: InstantProtocol {
    var offset: Swift.Duration
    func advanced(by duration: Swift.Duration) -> Instant { Instant(offset: offset + duration) }
    func duration(to other: Instant) -> Swift.Duration { other.offset - offset }
    static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
  }

  private let offset = MutableBox(Swift.Duration.zero)
  var now: Instant { Instant(offset: offset.value) }
  var minimumResolution: Swift.Duration { .nanoseconds(1) }
  var slept: Swift.Duration { offset.value }

  func sleep(until deadline: Instant, tolerance: Swift.Duration?) async throws {
    try Task.checkCancellation()
    offset.withLock { $0 = max($0, deadline.offset) }
  }
}

extension ReplicationOutcome {
  fileprivate func expectGood(_ count: Int, _ location: SourceLocation = #_sourceLocation) {
    #expect(failures.isEmpty && backups.count == count, "\(self)", sourceLocation: location)
  }
}
