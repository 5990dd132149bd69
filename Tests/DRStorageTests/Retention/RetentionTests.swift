import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// What retention keeps, marks and removes, and in which order of days.
struct RetentionTests {
  private static let day = 86_400.0

  /// A repository in memory whose clock a test sets, with one small backup for each moment.
  private struct Bench {
    let clock = TestClock("2026-01-01T02:00:00Z")
    let tier: InMemoryTier
    let repository: Repository

    init(_ capabilities: TierCapabilities = InMemoryTier.allCapabilities) {
      tier = InMemoryTier(capabilities: capabilities, now: clock.now)
      repository = Repository(tier: tier, now: clock.now)
    }

    @discardableResult
    func backUp(_ cadence: Cadence = .daily, system: String = "7301") async throws -> String {
      var source = MemorySource(component: try .postgres("app"), artifacts: ["base.tar": TestData.rows(100)])
      source.recoveryPoint.time = clock.now()
      source.systemIdentifier = system
      return try await repository.backUp(source, cadence: cadence, logger: quiet).id
    }

    func prune(_ policy: RetentionPolicy, grace: Duration = .seconds(86_400)) async throws -> PruneOutcome {
      try await repository.prune(policy, grace: grace, logger: quiet)
    }

    func ids() async throws -> [String] { try await repository.catalog().backups.map(\.id) }
  }

  @Test("A year of days, kept by grandfather, father and son, is the backups that the calendar says")
  func cadences() async throws {
    let bench = Bench()
    for _ in 0..<365 {
      try await bench.backUp()
      bench.clock.advance(Self.day)
    }
    let policy = RetentionPolicy([
      .newest(7, each: .day), .newest(5, each: .week), .newest(12, each: .month), .newest(3, each: .year),
    ])
    let plan = try await bench.repository.prunePlan(policy)
    let kept = plan.decisions.filter { $0.action == .keep }.map { String($0.backup.dropFirst(7).prefix(8)) }
    // 2026-12-31 is a Thursday: Sundays end the weeks before.
    let expected = [
      "20260131", "20260228", "20260331", "20260430", "20260531", "20260630", "20260731", "20260831", "20260930",
      "20261031", "20261130", "20261206", "20261213", "20261220", "20261225", "20261226", "20261227", "20261228",
      "20261229", "20261230", "20261231",
    ]
    #expect(kept == expected)
    #expect(plan.decisions.allSatisfy { !$0.reasons.isEmpty })
    #expect(plan.decisions.last?.reasons.count == 5)  // four rules, and the last restorable one
    #expect(plan.decisions.filter { $0.action == .mark }.count == 365 - expected.count)

    // Marked, they are all there for a day; then they go.
    #expect(try await bench.prune(policy).marked.count == 365 - expected.count)
    #expect(try await bench.ids().count == 365)
    bench.clock.advance(Self.day / 2)
    #expect(try await bench.prune(policy).removed.isEmpty)
    bench.clock.advance(Self.day)
    let outcome = try await bench.prune(policy)
    #expect(outcome.removed.count == 365 - expected.count)
    #expect(try await bench.ids().map { String($0.dropFirst(7).prefix(8)) } == expected)
    for backup in try await bench.repository.catalog().backups { _ = try await bench.repository.contents(backup) }
    // What went left nothing but its tombstone; after a month that is forgotten too.
    #expect(try await bench.tier.keys("postgres/daily/").count == expected.count)
    bench.clock.advance(31 * Self.day)
    let all = RetentionPolicy([.newest(1000)])
    _ = try await bench.prune(all)
    #expect(try await bench.tier.keys("postgres/prune/").isEmpty)
  }

  @Test("By age and by count, for each cadence its own")
  func ageAndCount() async throws {
    let bench = Bench()
    for number in 0..<20 {
      try await bench.backUp(number % 5 == 0 ? .weekly : .daily)
      bench.clock.advance(Self.day)
    }
    let policy = RetentionPolicy([.within(days: 3.5), .newest(2, cadence: .weekly)])
    let kept = try await bench.repository.prunePlan(policy).decisions.filter { $0.action == .keep }.map(\.backup)
    #expect(kept.map { String($0.dropFirst(13).prefix(2)) } == ["11", "16", "18", "19", "20"])
    // A component of its own rules.
    let other = RetentionPolicy([.newest(1)], components: ["postgres/app": [.newest(4)]])
    #expect(try await bench.repository.prunePlan(other).decisions.filter { $0.action == .keep }.count == 4)
  }

  @Test("The last restorable backup stays whatever the rules say, also when newer ones are torn")
  func lastRestorable() async throws {
    let bench = Bench()
    var all: [String] = []
    for _ in 0..<4 {
      all.append(try await bench.backUp())
      bench.clock.advance(400 * Self.day)
    }
    let nothing = RetentionPolicy([.within(days: 1)])
    for backup in try await bench.repository.catalog().backups.suffix(2) {
      try await bench.tier.delete(backup.artifacts[0].key)
    }
    let plan = try await bench.repository.prunePlan(nothing)
    #expect(plan.decisions.map(\.isTorn) == [false, false, true, true])
    #expect(plan.decisions.last?.description.contains("TORN: artifacts are missing here") == true)
    _ = try await bench.prune(nothing, grace: .zero)
    _ = try await bench.prune(nothing, grace: .zero)
    #expect(try await bench.ids() == [all[1]])
  }

  @Test("A chain is kept whole: what an incremental backup needs goes with it, not before")
  func chains() async throws {
    let bench = Bench()
    var chain: [String] = []
    for number in 0..<6 {
      let id = try await bench.backUp()
      // Each needs the one before, but the first and the fourth.
      if number % 3 != 0 {
        let key = try ObjectKey("postgres/metadata/\(id).json")
        var manifest = try await bench.repository.catalog().backup(id: id)
        manifest.parent = chain.last
        _ = try await bench.tier.put(key, ByteStream(.init(bytes: manifest.json())), PutOptions())
      }
      chain.append(id)
      bench.clock.advance(Self.day)
    }
    let plan = try await bench.repository.prunePlan(RetentionPolicy([.newest(1)]))
    #expect(plan.decisions.map(\.action) == [.mark, .mark, .mark, .keep, .keep, .keep])
    #expect(plan.decisions[3].reasons == ["\(chain[4]) needs it"])
    // One whose parent is gone is not restorable: so the chain before is the last one.
    let torn = try await bench.repository.catalog().backup(id: chain[3])
    try await bench.tier.delete(torn.artifacts[0].key)
    let after = try await bench.repository.prunePlan(RetentionPolicy([.within(days: 0.1)]))
    #expect(after.decisions.filter { $0.action == .keep }.map(\.backup) == Array(chain[0...2]))
  }

  @Test("Systems are not mixed: each has its own last backup, and its own counts")
  func systems() async throws {
    let bench = Bench()
    for system in ["7301", "7301", "7301", "9000", "9000"] {
      try await bench.backUp(system: system)
      bench.clock.advance(30 * Self.day)
    }
    let plan = try await bench.repository.prunePlan(RetentionPolicy([.newest(1)]))
    #expect(plan.decisions.map(\.action) == [.mark, .mark, .keep, .mark, .keep])
    let forgetting = RetentionPolicy([.newest(1)], forgetOldSystemsAfterDays: 60)
    #expect(
      try await bench.repository.prunePlan(forgetting).decisions.map(\.action) == [.mark, .mark, .mark, .mark, .keep])
  }

  @Test("A marked backup that is wanted again is taken back, and can be marked once more")
  func rescue() async throws {
    let bench = Bench()
    let first = try await bench.backUp()
    bench.clock.advance(Self.day)
    try await bench.backUp()
    let (one, two) = (RetentionPolicy([.newest(1)]), RetentionPolicy([.newest(2)]))
    for _ in 0..<3 {
      #expect(try await bench.prune(one).marked == [first])
      bench.clock.advance(2 * Self.day)
      #expect(try await bench.prune(two).rescued == [first])
      #expect(try await bench.prune(two).rescued.isEmpty)
    }
    #expect(try await bench.ids().count == 2)
    _ = try await bench.prune(one)
    bench.clock.advance(2 * Self.day)
    #expect(try await bench.prune(one).removed == [first])
  }

  @Test("What was not in the plan that somebody looked at is not removed")
  func approval() async throws {
    let bench = Bench()
    for _ in 0..<4 {
      try await bench.backUp()
      bench.clock.advance(Self.day)
    }
    let seen = try await bench.repository.prunePlan(RetentionPolicy([.newest(3)]))
    let outcome = try await bench.repository.prune(
      RetentionPolicy([.newest(1)]), grace: .zero, approved: seen, logger: quiet)
    #expect(outcome.marked == seen.decisions.filter { $0.action == .mark }.map(\.backup))
    #expect(outcome.marked.count == 1)
  }

  @Test("A pruning that was stopped before its removals and goes on late removes nothing that others want by then")
  func stale() async throws {
    let (one, three) = (RetentionPolicy([.newest(1)]), RetentionPolicy([.newest(3)]))
    // Stopped at each of its calls in turn, while another one, which wants more, runs to its end.
    for call in 1...60 {
      let fresh = Bench()
      for _ in 0..<4 {
        try await fresh.backUp()
        fresh.clock.advance(Self.day)
      }
      _ = try await fresh.prune(one)
      fresh.clock.advance(2 * Self.day)
      let (stopped, go) = (MutableBox(false), MutableBox(false))
      let slow = GatedTier(fresh.tier, at: call, stopped, go)
      let late = Task {
        try await Repository(tier: slow, now: fresh.clock.now).prune(one, grace: .seconds(86_400), logger: quiet)
      }
      let watch = Task {
        while !stopped.value { try await Task.sleep(for: .milliseconds(1)) }
      }
      let ended = Task {
        _ = await late.result
        watch.cancel()
      }
      _ = await watch.result
      let other = try await fresh.prune(three)
      let between = try await fresh.ids()
      go.withLock { $0 = true }
      _ = await late.result
      _ = await ended.result
      // Whatever the other kept for good, and said so, is still there, whole.
      let catalog = try await fresh.repository.catalog()
      let wanted = between.filter { id in
        other.plan.decisions.contains { $0.backup == id && [.keep, .rescue].contains($0.action) }
      }
      #expect(catalog.backups.map(\.id).filter(wanted.contains) == wanted, "stopped at call \(call)")
      for backup in catalog.backups { _ = try await fresh.repository.contents(backup) }
      #expect(!catalog.backups.isEmpty)
    }
  }

  @Test("What a lock holds is reported and goes later; what is kept is locked for longer, with its log")
  func locks() async throws {
    let bench = Bench()
    let policy = RetentionPolicy([.newest(2)], lock: RetentionPolicy.Lock(.governance, days: 10))
    let store = try ChangeLogStore(tier: bench.tier, component: .postgres("app"), systemIdentifier: "7301")
    var all: [String] = []
    for number in 0..<4 {
      _ = try await store.put("00000001000000000000000\(number)", TestData.rows(1000, seed: UInt64(number)))
      all.append(try await bench.backUp())
      _ = try await bench.prune(policy)
      bench.clock.advance(Self.day)
    }
    // The first two were locked while they were wanted.
    let plan = try await bench.repository.prunePlan(policy)
    #expect(plan.decisions.map(\.action) == [.locked, .locked, .keep, .keep])
    #expect(try await bench.prune(policy).removed.isEmpty)
    let newest = try await bench.repository.catalog().backup(id: all[3])
    for key in try newest.artifacts.map(\.key) + [ObjectKey("postgres/metadata/\(all[3]).json")] {
      let until = try #require(try await bench.tier.head(key)?.lockedUntil)
      #expect(until.timeIntervalSince(bench.clock.now()) > 5 * Self.day)
    }
    for segment in try await bench.tier.listAll(prefix: "postgres/wal/") where segment.key.rawValue.contains("3-") {
      #expect(segment.lockedUntil != nil)
    }
    bench.clock.advance(11 * Self.day)
    #expect(try await bench.prune(policy).removed.sorted() == [all[0], all[1]])
    // The last two were locked anew meanwhile: eleven days later they still are, or are again.
    #expect(try await bench.ids() == [all[2], all[3]])
  }

  @Test("The log is kept from the oldest backup on that has not gone, and timeline histories for ever")
  func changeLog() async throws {
    let bench = Bench()
    let component = try Component.postgres("app")
    let store = try ChangeLogStore(tier: bench.tier, component: component, systemIdentifier: "7301")
    let foreign = try ChangeLogStore(tier: bench.tier, component: component, systemIdentifier: "1")
    _ = try await foreign.put("000000010000000000000000", TestData.rows(100))
    _ = try await store.put("00000002.history", TestData.rows(50))
    for number in 0..<8 {
      _ = try await store.put("00000001000000000000000\(number)", TestData.rows(1000, seed: UInt64(number)))
      if number % 2 == 1 { try await bench.backUp() }
      bench.clock.advance(Self.day)
    }
    let policy = RetentionPolicy([.newest(2)])
    // Marked backups hold their log.
    _ = try await bench.prune(policy)
    #expect(try await store.names().count == 9 - 1)  // what lies before the first backup is needed by none
    bench.clock.advance(2 * Self.day)
    _ = try await bench.prune(policy)
    let outcome = try await bench.prune(policy)
    #expect(outcome.plan.logs.map(\.systemIdentifier) == ["1", "7301"])
    #expect(
      try await store.names()
        == ["000000010000000000000005", "000000010000000000000006", "000000010000000000000007", "00000002.history"])
    // A system without a backup says nothing of what it needs.
    #expect(try await foreign.names().count == 1)
    // Nor does a manifest that cannot be read: then nothing goes.
    try await bench.tier.put("postgres/metadata/backup_20250101_000000.json", "{")
    let careful = try await bench.repository.prunePlan(RetentionPolicy([.newest(1)]))
    #expect(careful.logs.allSatisfy { $0.remove.isEmpty } && careful.unreadable.count == 1)
  }

  @Test("Whatever a storage's clock says, what a kept backup's position needs of the log stays")
  func position() async throws {
    let bench = Bench()
    let size: Int64 = 16 << 20
    let store = try ChangeLogStore(tier: bench.tier, component: .postgres("app"), systemIdentifier: "7301")
    for number in [0, 1, 2, 3, 254, 255] {
      _ = try await store.put(
        "0000000100000001" + String(format: "%08X", number), TestData.rows(100, seed: UInt64(number)))
    }
    _ = try await store.put("000000010000000000000005", TestData.rows(100, seed: 1000))
    _ = try await store.put("000000020000000200000000", TestData.rows(100, seed: 1001))
    try await store.putPartial("000000020000000200000001.00001000", TestData.rows(10))
    // All of it was stored long before, as a storage says whose clock is behind, or a copy that has lost its times.
    bench.clock.advance(3 * Self.day)
    func backUp(_ stated: Bool) async throws {
      var source = MemorySource(component: try .postgres("app"), artifacts: ["base.tar": TestData.rows(100)])
      source.recoveryPoint.time = bench.clock.now()
      source.changesFrom = RecoveryPoint(time: bench.clock.now(), position: "1/20000A8", history: "1")
      source.systemIdentifier = "7301"
      source.properties = stated ? ["walSegmentSize": .integer(size)] : [:]
      _ = try await bench.repository.backUp(source, cadence: .daily, logger: quiet)
    }
    try await backUp(true)
    let policy = RetentionPolicy([.newest(1)])
    let plan = try await bench.repository.prunePlan(policy)
    #expect(
      plan.logs.flatMap(\.remove).map { String($0.lastComponent.prefix(24)) }.sorted() == [
        "000000010000000000000005", "000000010000000100000000", "000000010000000100000001",
      ])
    // A manifest that does not state the size of a segment holds what might be needed with the largest.
    try await backUp(false)
    bench.clock.advance(2 * Self.day)
    _ = try await bench.prune(policy, grace: .zero)
    _ = try await bench.prune(policy, grace: .zero)
    let names = try await store.segments().map { String($0.name.prefix(24)) }
    #expect(
      !names.contains("000000010000000000000005") && names.contains("000000010000000100000000") && names.count == 8)
  }

  @Test("What a kept snapshot of Redis needs of its line stays, also behind a failover; other lines go")
  func positionBehindAFailover() async throws {
    let bench = Bench()
    let redis = try Component(.redis, "app")
    let (own, next, former) = (
      String(repeating: "a1", count: 20), String(repeating: "b2", count: 20), String(repeating: "c3", count: 20)
    )
    func store(_ line: String) throws -> ChangeLogStore {
      try ChangeLogStore(tier: bench.tier, component: redis, log: "aof", systemIdentifier: line)
    }
    func name(_ start: Int, _ history: String) -> String {
      String(format: "%020d-%020d-", start, start + 10) + history
    }
    for (start, history) in [(0, own), (10, own), (20, next), (30, next)] {
      _ = try await store(own).put(name(start, history), TestData.rows(10, seed: UInt64(start)))
    }
    for start in [100, 110] {
      _ = try await store(former).put(name(start, former), TestData.rows(10, seed: UInt64(start)))
    }
    bench.clock.advance(3 * Self.day)
    var source = MemorySource(component: redis, artifacts: ["dump.rdb": TestData.rows(100)])
    source.recoveryPoint = RecoveryPoint(time: bench.clock.now(), position: "10", history: own)
    source.changesFrom = source.recoveryPoint
    _ = try await bench.repository.backUp(source, cadence: .daily, logger: quiet)
    let plan = try await bench.repository.prunePlan(RetentionPolicy([.newest(1)]))
    // The newest of each line says where to go on.
    #expect(
      plan.logs.flatMap(\.remove).map { String($0.lastComponent.prefix(82)) }.sorted() == [
        name(0, own), name(100, former),
      ])
  }

  @Test("Redis' and RabbitMQ's logs go with the oldest backup too, whatever their folders are named for")
  func otherChangeLogs() async throws {
    let clock = TestClock("2026-01-01T02:00:00Z")
    let tier = InMemoryTier(now: clock.now)
    let repository = Repository(tier: tier, now: clock.now)
    let (redis, rabbit) = (try Component(.redis, "app"), try Component(.rabbitmq, "app"))
    func back(up component: Component) async throws -> String {
      var source = MemorySource(component: component, artifacts: ["dump": TestData.rows(100)])
      source.recoveryPoint.time = clock.now()
      return try await repository.backUp(source, cadence: .daily, logger: quiet).id
    }
    let line = String(repeating: "a1", count: 20)
    let aof = try ChangeLogStore(tier: tier, component: redis, log: "aof", systemIdentifier: line)
    let messages = try ChangeLogStore(
      tier: tier, component: rabbit, log: "messages", systemIdentifier: "rabbit@host",
      group: { String($0.prefix(16)) })
    let (busy, quietQueue) = (String(repeating: "b", count: 16), String(repeating: "c", count: 16))
    func number(_ number: Int) -> String { String(format: "%012d", number) }
    // A queue that was written to once, long ago.
    _ = try await messages.put("\(quietQueue)-\(number(1))", TestData.rows(50))
    _ = try await messages.put("\(quietQueue)-\(number(2))", TestData.rows(51))
    try await messages.putPartial("\(quietQueue)-\(number(0))", TestData.rows(3))
    for day in 1...6 {
      for component in [redis, rabbit] { _ = try await back(up: component) }
      clock.advance(Self.day / 2)
      _ = try await aof.put("\(number(day))-\(number(day + 1))-\(line)", TestData.rows(100, seed: UInt64(day)))
      _ = try await messages.put("\(busy)-\(number(day))", TestData.rows(100, seed: UInt64(day)))
      try await messages.putPartial("\(busy)-\(number(0))", TestData.rows(4))
      clock.advance(Self.day / 2)
    }
    let policy = RetentionPolicy([.newest(2)])
    _ = try await repository.prune(policy, grace: .zero, logger: quiet)
    let outcome = try await repository.prune(policy, grace: .zero, logger: quiet)
    #expect(outcome.removed.count == 8 && outcome.segments == 0)
    // The backups are gone: now what was stored before the fifth day's is needed by none.
    let second = try await repository.prune(policy, grace: .zero, logger: quiet)
    #expect(second.segments == 4 + 4 + 1)
    #expect(try await aof.names() == [5, 6].map { "\(number($0))-\(number($0 + 1))-\(line)" })
    // Where a queue was is still known, so its numbers go on.
    #expect(
      try await messages.segments().map(\.name) == [
        "\(busy)-\(number(0))", "\(busy)-\(number(5))", "\(busy)-\(number(6))", "\(quietQueue)-\(number(0))",
        "\(quietQueue)-\(number(2))",
      ])
    #expect(try await repository.prune(policy, grace: .zero, logger: quiet).segments == 0)

    // Copies take the same.
    let other = InMemoryTier(now: clock.now)
    let copied = try await Replicator(from: repository, to: Repository(tier: other, now: clock.now)).run(logger: quiet)
    #expect(copied.failures.isEmpty && copied.segments == 7)
    #expect(try await other.keys("redis/aof/") == tier.keys("redis/aof/"))
    #expect(try await other.keys("rabbitmq/messages/") == tier.keys("rabbitmq/messages/"))
  }

  @Test("A pruning that is interrupted at any call leaves whole backups, and the next one ends what it began")
  func interrupted() async throws {
    let policy = RetentionPolicy([.newest(2)])
    var (call, cases) = (1, 0)
    while true {
      var reached = false
      for fault in FaultInjectingTier.Fault.failing {
        for killing in [false, true] {
          let bench = Bench()
          var all: [String] = []
          for _ in 0..<4 {
            all.append(try await bench.backUp())
            bench.clock.advance(Self.day)
          }
          _ = try await bench.prune(policy)
          bench.clock.advance(2 * Self.day)
          let faulty = FaultInjectingTier(bench.tier, failing: call, fault, killing: killing)
          _ = try? await Repository(tier: faulty, now: bench.clock.now).prune(policy, logger: quiet)
          guard faulty.calls.count >= call else { continue }
          reached = true
          cases += 1
          let catalog = try await bench.repository.catalog()
          #expect(catalog.unreadable.isEmpty && catalog.backups.map(\.id).suffix(2) == all.suffix(2))
          for backup in catalog.backups { _ = try await bench.repository.contents(backup) }
          _ = try await bench.prune(policy, grace: .zero)
          _ = try await bench.prune(policy, grace: .zero)
          #expect(try await bench.ids() == Array(all.suffix(2)), "call \(call) \(fault) \(killing)")
          #expect(try await bench.tier.keys("postgres/daily/").count == 2)
        }
      }
      if !reached { break }
      call += 1
    }
    #expect(cases > 100)
  }

  @Test("A policy is a value that can be written down")
  func codable() throws {
    let policy = RetentionPolicy(
      [.within(days: 7), .newest(3, cadence: .weekly), .newest(84, each: .month)],
      components: ["redis/cache": [.newest(2)]], lock: RetentionPolicy.Lock(.compliance, days: 2557))
    let data = try JSONEncoder().encode(policy)
    #expect(try JSONDecoder().decode(RetentionPolicy.self, from: data) == policy)
    let written = """
      {"rules": [{"days": 7}, {"newest": 3, "cadence": "weekly"}, {"newest": 84, "each": "month"}],
       "components": {"redis/cache": [{"newest": 2}]}, "lock": {"mode": "compliance", "days": 2557}}
      """
    #expect(try JSONDecoder().decode(RetentionPolicy.self, from: Data(written.utf8)) == policy)
  }

  @Test(
    "A policy in which something is mistyped, or that keeps nothing, is refused",
    arguments: [
      #"{"rules": []}"#, #"{"rules": [{}]}"#, #"{"rules": [{"days": 0}]}"#, #"{"rules": [{"newest": -1}]}"#,
      #"{"rules": [{"days": 7, "newest": 3}]}"#, #"{"rules": [{"each": "month"}]}"#, #"{"rule": [{"days": 7}]}"#,
      #"{"rules": [{"newest": 3, "each": "fortnight"}]}"#, #"{"rules": [{"newest": 3, "echa": "month"}]}"#,
      #"{"rules": [{"days": 7}], "components": {"redis/cache": []}}"#,
      #"{"rules": [{"days": 7}], "components": {"nonsense": [{"days": 7}]}}"#,
      #"{"rules": [{"days": 7}], "lock": {"mode": "compliance", "days": 0}}"#,
      #"{"rules": [{"days": 7}], "forgetOldSystemsAfterDays": -1}"#,
    ])
  func mistypedPolicy(json: String) {
    #expect(throws: (any Error).self) { try JSONDecoder().decode(RetentionPolicy.self, from: Data(json.utf8)) }
  }

  @Test("A damaged backup is not the last restorable one, where it is read; what is restorable stays in its place")
  func readsLast() async throws {
    let bench = Bench()
    var ids: [String] = []
    for _ in 0..<3 {
      ids.append(try await bench.backUp())
      bench.clock.advance(Self.day)
    }
    let newest = try await bench.repository.catalog().backup(id: ids[2])
    var content = try await bench.tier.read(newest.artifacts[0].key)
    let middle = content.readableBytes / 2
    content.setInteger((content.getInteger(at: middle, as: UInt8.self) ?? 0) ^ 1, at: middle)
    _ = try await bench.tier.put(newest.artifacts[0].key, ByteStream(content), PutOptions())
    let policy = RetentionPolicy([.newest(1)])
    func marked(_ readsLast: Bool) async throws -> [String] {
      try await bench.repository.prunePlan(policy, readsLast: readsLast).decisions.filter { $0.action == .mark }
        .map(\.backup)
    }
    #expect(try await marked(false) == [ids[0], ids[1]])
    #expect(try await marked(true) == [ids[0]])
    for _ in 0..<3 {
      try await bench.repository.prune(policy, readsLast: true, logger: quiet)
      bench.clock.advance(2 * Self.day)
    }
    #expect(try await bench.ids() == [ids[1], ids[2]])
    let plan = try await bench.repository.prunePlan(policy, readsLast: true)
    #expect(plan.decisions.map(\.isTorn) == [false, true])
  }
}

/// Waits at one call until it is let go.
private struct GatedTier: StorageTier {
  private let tier: any StorageTier
  private let call: Int
  private let stopped: MutableBox<Bool>
  private let go: MutableBox<Bool>
  private let count = MutableBox(0)

  init(_ tier: any StorageTier, at call: Int, _ stopped: MutableBox<Bool>, _ go: MutableBox<Bool>) {
    (self.tier, self.call, self.stopped, self.go) = (tier, call, stopped, go)
  }

  var name: String { tier.name }
  var capabilities: TierCapabilities { tier.capabilities }

  private func pass() async throws {
    let number = count.withLock { count in
      count += 1
      return count
    }
    guard number == call else { return }
    stopped.withLock { $0 = true }
    while !go.value { try await Task.sleep(for: .milliseconds(1)) }
  }

  func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try await pass()
    return try await tier.put(key, body, options)
  }

  func get(_ key: ObjectKey, range: Range<Int64>?) async throws -> ByteStream {
    try await pass()
    return try await tier.get(key, range: range)
  }

  func head(_ key: ObjectKey) async throws -> ObjectInfo? {
    try await pass()
    return try await tier.head(key)
  }

  func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    try await pass()
    return try await tier.list(prefix: prefix, after: after, limit: limit)
  }

  func delete(_ key: ObjectKey) async throws {
    try await pass()
    try await tier.delete(key)
  }

  func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    try await tier.removeAbandonedUploads(olderThan: date)
  }
}
