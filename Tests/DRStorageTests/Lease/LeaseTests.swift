import DRCore
import DRStorage
import Foundation
import Testing

struct LeaseTests {
  private let settings = Lease.Settings(life: .seconds(1), patience: .seconds(30))

  @Test("Of many at the same time one is in, and the token rises from one to the next")
  func alone() async throws {
    try await withLocalTier { tier, _ in
      let inside = MutableBox((now: 0, most: 0, tokens: [Int64]()))
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<6 {
          group.addTask {
            try await Lease.with("prune", on: tier, settings, logger: quiet) { lease in
              inside.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
                $0.tokens.append(lease.token)
              }
              try await lease.confirm()
              try await Task.sleep(for: .milliseconds(20))
              inside.withLock { $0.now -= 1 }
            }
          }
        }
        try await group.waitForAll()
      }
      #expect(inside.value.most == 1)
      #expect(inside.value.tokens.count == 6 && inside.value.tokens == Array(Set(inside.value.tokens)).sorted())
      // The last token stays: so the next is higher.
      #expect(try await tier.keys("leases/").count == 1)
    }
  }

  @Test("Work that takes longer than the lease keeps it by renewing, and who waits is told who has it")
  func renewal() async throws {
    let tier = InMemoryTier()
    try await Lease.with("prune", on: tier, settings, logger: quiet) { lease in
      try await Task.sleep(for: .milliseconds(2500))
      try await lease.confirm()
      let short = Lease.Settings(life: .seconds(1), patience: .milliseconds(1500))
      #expect(await code { try await Lease.with("prune", on: tier, short, logger: quiet) { _ in } } == .leaseHeld)
      // Another name is another lease.
      try await Lease.with("schedule", on: tier, short, logger: quiet) { _ in }
      try lease.check()
    }
  }

  @Test("Who is dead is followed once the lease has run out, and who comes back finds it lost and writes no more")
  func takeover() async throws {
    let tier = InMemoryTier()
    // A process that is stopped: its renewals do not arrive.
    let stopped = MutableBox(false)
    let frozen = FaultInjectingTier(tier) { call in
      stopped.value && call.kind == .put ? .stall(.seconds(20)) : nil
    }
    let taken = MutableBox<[Int64]>([])
    let result = await code {
      try await Lease.with("prune", on: frozen, settings, logger: quiet) { first in
        stopped.withLock { $0 = true }
        try await Lease.with("prune", on: tier, settings, logger: quiet) { second in
          taken.withLock { $0 = [first.token, second.token] }
          #expect(throws: DRError.self) { try first.check() }
          #expect(await code { try await first.confirm() } == .leaseLost)
          try second.check()
        }
        stopped.withLock { $0 = false }
        try first.check()
      }
    }
    #expect(result == .leaseLost)
    #expect(taken.value == [1, 2])
  }

  @Test("When the lease is lost the work is cancelled, and when the work is cancelled the lease is released")
  func cancellation() async throws {
    let tier = InMemoryTier()
    let cut = MutableBox(false)
    let away = FaultInjectingTier(tier) { _ in cut.value ? .before : nil }
    let seen = MutableBox(false)
    let result = await code {
      try await Lease.with("prune", on: away, settings, logger: quiet) { _ in
        cut.withLock { $0 = true }
        do {
          try await Task.sleep(for: .seconds(20))
        } catch {
          seen.withLock { $0 = true }
          throw error
        }
      }
    }
    #expect(result == .leaseLost && seen.value)

    let other = InMemoryTier()
    let work = Task {
      try await Lease.with("prune", on: other, Lease.Settings(life: .seconds(60)), logger: quiet) { _ in
        try await Task.sleep(for: .seconds(60))
      }
    }
    while try await other.keys("leases/").isEmpty { try await Task.sleep(for: .milliseconds(5)) }
    work.cancel()
    _ = await work.result
    // Released: nobody waits for a minute.
    let soon = Lease.Settings(life: .seconds(60), patience: .seconds(1))
    try await Lease.with("prune", on: other, soon, logger: quiet) { #expect($0.token == 2) }
  }

  @Test("A tier that cannot decide between two writers holds no lease")
  func unsupported() async throws {
    let tier = InMemoryTier(capabilities: [.compareAndSwap])
    #expect(await code { try await Lease.with("prune", on: tier, logger: quiet) { _ in } } == .unsupported)
  }

  @Test("A lost answer to the claim is no lost lease")
  func lostAnswer() async throws {
    let tier = InMemoryTier()
    let faulty = RetryingTier(
      FaultInjectingTier(tier) { $0.kind == .put && $0.number < 4 ? .after : nil },
      policy: RetryPolicy(firstDelay: .milliseconds(1)))
    try await Lease.with("prune", on: faulty, settings, logger: quiet) { lease in
      #expect(lease.token == 1)
      try await lease.confirm()
    }
  }
}
