import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

struct DecoratorTests {
  @Test("Retries stop after so many attempts, so much time, or when the budget is spent")
  func caps() async throws {
    let away = FaultInjectingTier(InMemoryTier()) { _ in .before }
    let clock = StepClock()
    func tier(_ policy: RetryPolicy, _ budget: RetryBudget = RetryBudget()) -> RetryingTier {
      RetryingTier(away, policy: policy, budget: budget, clock: clock, chance: { 1 })
    }
    let key = try ObjectKey("a")
    #expect(
      await code { _ = try await tier(RetryPolicy(attempts: 4, firstDelay: .seconds(1))).head(key) } == .tierUnavailable
    )
    #expect(away.calls.count == 4 && clock.slept == .seconds(1 + 2 + 4))
    // 1, 2, 4, then 5 at most, until the next would end after 20 s.
    let long = RetryPolicy(attempts: 100, timeLimit: .seconds(20), firstDelay: .seconds(1), longestDelay: .seconds(5))
    _ = await code { _ = try await tier(long).head(key) }
    #expect(away.calls.count == 4 + 6 && clock.slept == .seconds(7 + 17))
    let budget = RetryBudget(retries: 3)
    _ = await code { _ = try await tier(RetryPolicy(attempts: 10), budget).head(key) }
    _ = await code { _ = try await tier(RetryPolicy(attempts: 10), budget).head(key) }
    #expect(away.calls.count == 10 + 4 + 1)
  }

  @Test("An answer is not asked for again: absent, exists, no space")
  func answers() async throws {
    let calls = FaultInjectingTier(InMemoryTier(), failing: 0, .before)
    let tier = RetryingTier(calls)
    #expect(await code { _ = try await tier.get(ObjectKey("a"), range: nil) } == .objectNotFound)
    #expect(try await tier.head(ObjectKey("a")) == nil)
    #expect(calls.calls.count == 2)
    let full = FaultInjectingTier(InMemoryTier(), throwing: DRError(.noSpace, "full")) { _ in .before }
    #expect(await code { try await RetryingTier(full).put("a", "x") } == .noSpace)
    #expect(full.calls.count == 1)
  }

  @Test("Jitter: no two clients wait alike, and none longer than the step")
  func jitter() {
    let policy = RetryPolicy(firstDelay: .milliseconds(100), longestDelay: .seconds(1))
    #expect(policy.delay(afterFailures: 1, chance: 1) == .milliseconds(100))
    #expect(policy.delay(afterFailures: 3, chance: 0.5) == .milliseconds(200))
    #expect(policy.delay(afterFailures: 60, chance: 1) == .seconds(1))
    #expect(policy.delay(afterFailures: 5, chance: 0) == .zero)
  }

  @Test("A conditional put whose answer was lost finds its own object, and no other's")
  func lostAnswer() async throws {
    let base = InMemoryTier()
    let policy = RetryPolicy(firstDelay: .zero)
    func tier() -> RetryingTier { RetryingTier(FaultInjectingTier(base, failing: 1, .after), policy: policy) }
    try await tier().put("a", "mine", onlyIfAbsent: true)
    #expect(try await base.text("a") == "mine")
    #expect(await code { try await tier().put("a", "yours", onlyIfAbsent: true) } == .objectExists)
    let other = RetryingTier(FaultInjectingTier(base, failing: 1, .before), policy: policy)
    #expect(await code { try await other.put("a", "theirs", onlyIfAbsent: true) } == .objectExists)
  }

  @Test("A get that breaks goes on where it stopped; of a replaced object it does not")
  func resumedGet() async throws {
    let base = InMemoryTier()
    let content = TestData.rows(5_000_000)
    _ = try await base.put(ObjectKey("a"), ByteStream(content), PutOptions())
    let policy = RetryPolicy(firstDelay: .zero)
    let breaking = FaultInjectingTier(base) { $0.kind == .get && $0.number < 8 ? .inside : nil }
    #expect(try await RetryingTier(breaking, policy: policy).read(ObjectKey("a")) == content)
    let replaced = FaultInjectingTier(base) { $0.kind == .get ? .inside : nil }
    let stream = try await RetryingTier(replaced, policy: policy).get(ObjectKey("a"), range: nil)
    _ = try await base.put(ObjectKey("a"), ByteStream(TestData.rows(5_000_000, seed: 3)), PutOptions())
    #expect(await code { for try await _ in stream {} } == .tierUnavailable)
  }

  @Test("A long body goes through once: what broke after it was pulled is said, not tried again")
  func longBody() async throws {
    let base = InMemoryTier()
    let content = TestData.rows(RetryingTier.replayLimit + 5_000_000)
    let once = FaultInjectingTier(base, failing: 1, .before)
    let policy = RetryPolicy(firstDelay: .zero)
    _ = try await RetryingTier(once, policy: policy).put(
      ObjectKey("a"), ByteStream(TestData.pieces(of: content, upTo: 900_000)), PutOptions())
    #expect(try await base.read(ObjectKey("a")) == content)
    let inside = FaultInjectingTier(base, failing: 1, .inside)
    #expect(
      await code {
        _ = try await RetryingTier(inside, policy: policy).put(
          ObjectKey("b"), ByteStream(TestData.pieces(of: content, upTo: 900_000)), PutOptions())
      } == .tierUnavailable)
    #expect(inside.calls.count == 1)
    #expect(try await base.head(ObjectKey("b")) == nil)
  }

  @Test("A limited tier gives so many bytes a second, all streams together, in both directions")
  func rate() async throws {
    let clock = StepClock()
    let base = InMemoryTier()
    let tier = RateLimitedTier(base, upload: 1000, download: 2000, clock: clock)
    let pieces = TestData.pieces(of: TestData.rows(50_000), upTo: 500)
    _ = try await tier.put(ObjectKey("a"), ByteStream(pieces), PutOptions())
    #expect(clock.slept > .seconds(49) && clock.slept <= .seconds(50))
    let before = clock.slept
    for _ in 0..<3 { _ = try await tier.read(ObjectKey("a")) }
    // A read of memory comes in one piece: the last is not paid for.
    #expect(clock.slept - before >= .seconds(50))
  }

  @Test("The tier in memory, by its own clock, keeps locks and freezes archives")
  func memory() async throws {
    let clock = TestClock()
    let tier = InMemoryTier(now: clock.now)
    let key = try ObjectKey("a")
    let until = clock.now().addingTimeInterval(100)
    _ = try await tier.put(
      key, ByteStream(ByteBuffer(string: "x")),
      PutOptions(storageClass: .glacier, lock: RetentionLock(.compliance, until: until)))
    #expect(await code { try await tier.delete(key) } == .objectLocked)
    #expect(await code { _ = try await tier.read(key) } == .objectArchived)
    #expect(try await tier.thaw([key], days: 1, speed: .expedited).isEmpty)
    clock.advance(301)
    #expect(try await tier.read(key) == ByteBuffer(string: "x"))
    try await tier.delete(key)
  }
}
