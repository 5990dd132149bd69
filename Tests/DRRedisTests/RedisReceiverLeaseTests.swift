import DRCore
import DRRedis
import DRStorage
import Foundation
import Testing

/// One receiver for each component of a repository.
@Suite(.serialized) struct RedisReceiverLeaseTests {
  @Test("A second receiver waits, is refused, and stores nothing; once the first has ended, another gets in at once")
  func two() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let archive = try RedisFixture.archive(repository)
        let first = try RunningLog(archive, server)
        try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
        let begin = ContinuousClock.now
        let second = try RunningLog(archive, server, RunningLog.options { $0.leasePatience = .seconds(2) })
        let refused = await second.result()
        let error = #expect(throws: DRError.self) { try refused.get() }
        #expect(
          error?.code == .leaseHeld
            && error?.message.contains("another receiver stores the changes of redis/test") == true)
        let waited = begin.duration(to: .now)
        #expect(waited > .seconds(1.9) && waited < .seconds(8), "\(waited)")
        #expect(second.all.isEmpty && second.events.isEmpty)
        // The other goes on, and nothing overlaps.
        try await server.command("SET", "a", "1")
        try await first.waitUntilDurable(server)
        let third = try RunningLog(archive, server, RunningLog.options { $0.leasePatience = .seconds(20) })
        try await server.command("SET", "b", "2")
        try await first.waitUntilDurable(server)
        try await first.stop().get()
        try await RedisFixture.eventually("the next one to go on", within: .seconds(5)) { third.resumptions == 1 }
        try await third.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await third.stop().get()
        let segments = try await archive.lines()[0].segments
        #expect(zip(segments, segments.dropFirst()).allSatisfy { $0.end <= $1.start }, "\(segments)")
        #expect(try await RedisFixture.restoredDigest(first.snapshots[0], repository, to: .latest) == digest)
      }
    }
  }

  @Test("One whose tier was away for longer than its lease goes on with what it has spooled, if no other was there")
  func aTierThatIsAwayForLong() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let tier = DyingTier(repository.tier)
        let log = try RunningLog(RedisLogArchive(tier: tier, component: try RedisFixture.component()), server)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await log.waitUntilDurable(server)
        for round in 0..<2 {
          tier.fail(true)
          try await server.command("SET", "meanwhile", "\(round)")
          try await Task.sleep(for: .seconds(4))
          tier.fail(false)
          try await log.waitUntilDurable(server)
        }
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        #expect(log.gaps == 0 && log.resumptions == 0)
        #expect(try await RedisFixture.restoredDigest(log.snapshots[0], repository, to: .latest) == digest)
      }
    }
  }

  @Test("One whose lease another has taken while it could not renew it stores nothing more, and says so")
  func taken() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.withRepository { repository, _ in
        let tier = DyingTier(repository.tier)
        let first = try RunningLog(RedisLogArchive(tier: tier, component: try RedisFixture.component()), server)
        try await RedisFixture.eventually("the snapshot") { !first.snapshots.isEmpty }
        try await first.waitUntilDurable(server)
        tier.fail(true)
        try await server.command("SET", "a", "1")
        let second = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the other one to go on", within: .seconds(10)) { second.resumptions == 1 }
        try await second.waitUntilDurable(server)
        let before = first.all.count
        tier.fail(false)
        let result = await first.result()
        let error = #expect(throws: DRError.self) { try result.get() }
        #expect(error?.code == .leaseLost && error?.message.contains("this one stores nothing more") == true)
        #expect(first.all.count == before)
        try await server.command("SET", "b", "2")
        try await second.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await second.stop().get()
        #expect(try await RedisFixture.restoredDigest(first.snapshots[0], repository, to: .latest) == digest)
      }
    }
  }
}
