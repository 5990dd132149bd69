import DRCore
import DRStorage
import DRTestSupport
import DRVerify
import Foundation
import Logging
import Testing

/// One suite for every tier: those that keep the contract pass it, those that break one promise do not.
struct ConformanceTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private static func settings(_ largeSize: Int = 9 << 20) -> StorageTierConformance.Settings {
    var settings = StorageTierConformance.Settings()
    settings.largeSize = largeSize
    settings.lockDuration = .seconds(2)
    settings.thawLimit = .seconds(5)
    return settings
  }

  private func expectConformant(_ tier: any StorageTier, sourceLocation: SourceLocation = #_sourceLocation) async throws
    -> ConformanceReport
  {
    let report = try await StorageTierConformance(tier, settings: Self.settings()).run(logger: Self.logger)
    #expect(report.isConformant, "\(report.text)", sourceLocation: sourceLocation)
    #expect(try await tier.listAll(prefix: "").isEmpty, "nothing is left behind", sourceLocation: sourceLocation)
    return report
  }

  @Test("The local tier keeps the contract")
  func local() async throws {
    try await withTemporaryFolder { folder in
      let report = try await expectConformant(try await LocalTier(root: folder + "/tier", creating: true))
      #expect(report.rows.contains { $0.capability == "conditional put" && $0.claimed && $0.kept })
      #expect(report.rows.contains { $0.capability == "compare and swap" && !$0.claimed && $0.kept })
    }
  }

  @Test(
    "The tier in memory keeps the contract, whatever it was told that it can do",
    arguments: [InMemoryTier.allCapabilities, [], [.conditionalPut], [.objectLock, .archive, .storageClasses]])
  func memory(capabilities: TierCapabilities) async throws {
    let tier = InMemoryTier(capabilities: capabilities, thawTime: { _ in .milliseconds(300) })
    _ = try await expectConformant(tier)
  }

  @Test("Each decorator keeps the contract of what it decorates")
  func decorators() async throws {
    func memory() -> InMemoryTier { InMemoryTier(thawTime: { _ in .milliseconds(300) }) }
    _ = try await expectConformant(RetryingTier(memory()))
    _ = try await expectConformant(RateLimitedTier(memory(), upload: 2_000_000_000, download: 2_000_000_000))
    _ = try await expectConformant(FaultInjectingTier(memory(), failing: 0, .before))
    let looksFirst = InMemoryTier(capabilities: [.storageClasses])
    let report = try await expectConformant(SoleWriterTier(looksFirst))
    #expect(report.rows.contains { $0.capability == "conditional put" && $0.claimed && $0.kept })
    let base = memory()
    let readOnly = try await StorageTierConformance(
      readOnly: ReadOnlyTier(base), writtenBy: base, settings: Self.settings()
    ).run(logger: Self.logger)
    #expect(readOnly.isConformant, "\(readOnly.text)")
  }

  @Test("With every fourth call failing, a tier that is tried again keeps the contract")
  func retried() async throws {
    let base = InMemoryTier(thawTime: { _ in .milliseconds(300) })
    let faults = FaultInjectingTier(base) { call in
      guard call.number % 4 == 0 else { return nil }
      // A put that happened is put again, with the same bytes: but for large bodies, which go through once.
      return call.kind == .put ? .before : [.before, .after, .inside][call.number / 4 % 3]
    }
    let tier = RetryingTier(
      faults, policy: RetryPolicy(firstDelay: .milliseconds(1)), budget: RetryBudget(retries: 100_000))
    let report = try await StorageTierConformance(tier, settings: Self.settings(7 << 20)).run(logger: Self.logger)
    #expect(report.isConformant, "\(report.text)")
    #expect(faults.calls.count > 400)
  }

  @Test("A tier that breaks one promise is found out", arguments: MutantTier.Mutation.allCases)
  func mutants(mutation: MutantTier.Mutation) async throws {
    var settings = Self.settings(6 << 20)
    // It waits for a lock to end.
    if !MutantTier.Mutation.aboutLocks.contains(mutation) { settings.skipped = ["object-lock"] }
    let report = try await StorageTierConformance(MutantTier(mutation), settings: settings).run(logger: Self.logger)
    #expect(!report.isConformant, "nobody noticed \(mutation.rawValue)")
    if mutation == .losesRaces {
      #expect(report.rows.contains { $0.capability == "conditional put" && !$0.kept })
      #expect(report.text.contains("BROKEN"))
    }
  }

  @Test("A tier that cannot be reached is no finding: it could not look")
  func unreachable() async throws {
    let tier = FaultInjectingTier(InMemoryTier(), failing: 1, .before, killing: true)
    let report = await VerificationReport.run("tier", StorageTierConformance(tier), logger: Self.logger)
    #expect(report.verdict == .couldNotVerify)
  }
}
