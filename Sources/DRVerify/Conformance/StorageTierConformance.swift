public import DRCore
import DRStorage
public import Logging
import NIOCore

import struct Foundation.Date

/// Whether a tier keeps the contract that it states: the suite that every tier of this package passes, to be run against
/// your own bucket before you trust it with a backup.
///
/// It works below one prefix of its own and removes what it wrote. What is promised in ``DRCore/StorageTier`` is checked by
/// doing it: races are run, bodies are broken in the middle, locks are tried. It reads and writes some 60 MB.
public struct StorageTierConformance: Verifier {
  /// How thorough it is.
  public struct Settings: Sendable {
    /// Bytes of the largest object: above the size from which a tier stores in parts.
    public var largeSize: Int = 17 << 20
    /// How long a lock of the check lasts: it cannot be removed before.
    public var lockDuration: Duration = .seconds(4)
    /// How long a thaw is waited for. Real archives take hours: that it was not waited for is a notice, no failure.
    public var thawLimit: Duration = .seconds(20)
    /// How long one check may take.
    public var checkLimit: Duration = .seconds(180)

    /// Checks that are not run, by name.
    package var skipped: Set<String> = []

    public init() {}
  }

  private let tier: any StorageTier
  private let writer: any StorageTier
  private let readOnly: Bool
  private let prefix: String
  private let settings: Settings

  /// - Parameters:
  ///   - prefix: Below it a folder of its own is used; without a slash at its end.
  public init(_ tier: any StorageTier, prefix: String = "dr-tier-check", settings: Settings = Settings()) {
    self.tier = tier
    writer = tier
    readOnly = false
    self.prefix = prefix
    self.settings = settings
  }

  /// For a tier that is only read: what is read was written by another one, and every write must be refused
  /// (`notWritable`).
  public init(
    readOnly tier: any StorageTier, writtenBy writer: any StorageTier, prefix: String = "dr-tier-check",
    settings: Settings = Settings()
  ) {
    self.tier = tier
    self.writer = writer
    readOnly = true
    self.prefix = prefix
    self.settings = settings
  }

  /// One check: its stable name, the capability it is about, and what it does.
  struct Check: Sendable {
    var name: String
    var capability: TierCapabilities?
    var body: @Sendable (Bench) async throws -> Void
  }

  public func verify(logger: Logger) async throws -> [Finding] { try await run(logger: logger).findings }

  /// Runs every check.
  ///
  /// - Throws: ``DRError`` when the tier cannot be reached at all.
  public func run(logger: Logger) async throws -> ConformanceReport {
    _ = try await tier.list(prefix: prefix, after: nil, limit: 1)
    let folder = "\(prefix)/\(RandomName.hex().prefix(12))"
    var findings: [Finding] = []
    let checks =
      readOnly ? StorageTierConformance.reading + StorageTierConformance.refusing : StorageTierConformance.all
    for (number, check) in checks.enumerated() {
      let bench = Bench(
        tier: tier, writer: writer, folder: "\(folder)/\(number)", check: check.name, settings: settings)
      do {
        try await withTimeLimit(settings.checkLimit, "the check \(check.name)") { try await check.body(bench) }
      } catch is CancellationError {
        await clean(folder)
        throw CancellationError()
      } catch {
        bench.fail("it threw \(error)", "see what the tier says")
      }
      let seen = bench.findings
      logger.info("tier checked", metadata: ["check": "\(check.name)", "findings": "\(seen.count)"])
      findings += seen
      if !seen.contains(where: { $0.severity == .failure }) {
        findings.append(
          Finding(check.name, .passed, subject: tier.name, evidence: "\(max(1, bench.looks)) expectations held"))
      }
    }
    let left = await clean(folder)
    if !left.isEmpty {
      findings.append(
        Finding(
          "cleaned-up", .warning, subject: tier.name, evidence: "\(left.count) objects could not be removed",
          advice: "remove what lies under \(folder)"))
    }
    return ConformanceReport(
      tier: tier.name, capabilities: tier.capabilities, findings: findings,
      checks: checks.map { ($0.name, $0.capability) })
  }

  /// Removes what the checks wrote, and waits for locks of theirs. Gives what is left.
  @discardableResult
  private func clean(_ folder: String) async -> [ObjectKey] {
    let (writer, limit) = (writer, settings.lockDuration * 2 + .seconds(10))
    // Not cut short by a cancellation of the checks.
    return await Task {
      let end = ContinuousClock.now + limit
      while true {
        guard let left = try? await writer.listAll(prefix: folder + "/").map(\.key) else { return [] }
        if left.isEmpty { return [] }
        for key in left where writer.capabilities.contains(.objectLock) {
          try? await writer.setLegalHold(false, on: key)
        }
        _ = try? await writer.deleteAll(left)
        if ContinuousClock.now > end { return left }
        if let rest = try? await writer.listAll(prefix: folder + "/"), rest.isEmpty { return [] }
        try? await Task.sleep(for: .milliseconds(300))
      }
    }.value
  }
}
