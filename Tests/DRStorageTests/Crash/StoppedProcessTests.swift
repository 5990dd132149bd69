import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Two processes that prune one repository, one of them stopped beyond its lease.
struct StoppedProcessTests {
  @Test(
    "A pruning that is stopped in its midst is followed by another, and does no harm when it goes on", arguments: 1...3)
  func stopped(round: Int) async throws {
    try await withTemporaryFolder { folder in
      let path = folder + "/tier"
      let clock = TestClock("2026-01-01T02:00:00Z")
      let tier = try await LocalTier(root: path, creating: true)
      let repository = Repository(tier: tier, now: clock.now)
      var contents: [String: ByteBuffer] = [:]
      for number in 0..<80 as Range<UInt64> {
        var source = MemorySource(
          component: try .postgres("app"), artifacts: ["base.tar": TestData.rows(5000, seed: number)])
        source.recoveryPoint.time = clock.now()
        let backup = try await repository.backUp(source, cadence: .daily, logger: quiet)
        contents[backup.id] = source.artifacts["base.tar"]
        clock.advance(86_400)
      }
      // Everything but the newest is marked.
      _ = try await repository.prune(RetentionPolicy([.newest(1)]), grace: .zero, logger: quiet)

      func prune(_ keep: Int, _ name: String) throws -> ChildProcess {
        try ChildProcess(
          ChildProcess.program("dr-repository"),
          [
            "prune", "--tier", path, "--keep-last", "\(keep)", "--grace-hours", "0", "--execute", "--lease-seconds",
            "1",
            "--patience", "60",
          ], output: "\(folder)/\(name)")
      }
      func verdicts() -> Int { files(in: path).count { $0.hasSuffix(".verdict") } }

      // The first one removes all but one, and is stopped after some.
      let first = try prune(1, "first")
      let limit = ContinuousClock.now + .seconds(60)
      while verdicts() < 5 * round, ContinuousClock.now < limit { try await Task.sleep(for: .milliseconds(1)) }
      first.signal(SIGSTOP)
      #expect(verdicts() >= 5 * round, "\(first.said)")
      let left = try await repository.catalog().backups.count
      #expect(left > 40, "it was stopped in its midst: \(left) are left")

      // The second one wants to keep forty. It takes the lease over and goes about it.
      let second = try prune(40, "second")
      #expect(try await second.wait() == 0, "\(second.said)")
      let kept = try await repository.catalog().backups.map(\.id)
      #expect(kept.count == 40)

      // The first one goes on: it finds that it has lost its lease, and has removed nothing more.
      first.signal(SIGCONT)
      #expect(try await first.wait() == 2)
      #expect(first.said.contains("[lease-lost]"), "\(first.said)")
      let catalog = try await repository.catalog()
      #expect(catalog.backups.map(\.id) == kept && catalog.unreadable.isEmpty)
      for backup in catalog.backups {
        #expect(try await repository.contents(backup)["base.tar"] == contents[backup.id])
      }
      // Each mark and each verdict says under which lease it was put.
      let tokens = try files(in: path).filter { $0.hasSuffix(".verdict") }.map { file -> String in
        let text = try String(contentsOfFile: "\(path)/\(file)", encoding: .utf8)
        return text.contains("\"token\" : 1") ? "first" : text.contains("\"token\" : 2") ? "second" : text
      }
      #expect(Set(tokens) == ["first", "second"])
    }
  }
}
