import DRCore
import DRStorage
import DRVerify
import Testing

/// A daily verification in which one thing is wrong: a rule that is left out, that does not see something, or that is lenient.
enum MutantVerification: String, CaseIterable, Sendable {
  // Left out.
  case noReachability, noPresence, noAge, noSize, noManifestDamage, noSchema, noManifestComparison
  case noArtifactPresence, noArtifactSize, noTestRead, noSegmentRead, noDigest, noCodec, noSegmentDigest
  case noTornBackups, noChains, noBackupsOnCopyOnly, noLogGaps, noLogEnd, noEmptyCopies, noMissingCopies, noLogCopies
  // Blind.
  case seesNoCopy, seesNoSegments, seesNewestOnly, seesOneManifest
  // Lenient.
  case toleratesShrinking, toleratesGrowth, toleratesEmpty, toleratesFuture, doublesAge, longLag
  case obstacleIsPass, obstacleIsNotChecked, failureIsWarning, failureIsPass

  private var leftOut: String? {
    switch self {
    case .noReachability: "tier-reachable"
    case .noPresence: "backup-present"
    case .noAge: "backup-age"
    case .noSize: "backup-size"
    case .noManifestDamage: "manifest-readable"
    case .noSchema: "manifest-schema"
    case .noManifestComparison: "manifest-same"
    case .noArtifactPresence: "artifact-present"
    case .noArtifactSize: "artifact-size"
    case .noTestRead: "artifact-readable"
    case .noSegmentRead: "segment-readable"
    case .noDigest: "artifact-digest"
    case .noCodec: "artifact-codec"
    case .noSegmentDigest: "segment-digest"
    case .noTornBackups: "backup-whole"
    case .noChains: "backup-chain"
    case .noBackupsOnCopyOnly: "backup-in-repository"
    case .noLogGaps: "log-complete"
    case .noLogEnd: "log-in-repository"
    case .noEmptyCopies: "copy-present"
    case .noMissingCopies: "backup-on-copy"
    case .noLogCopies: "log-on-copy"
    default: nil
    }
  }

  /// What it finds where the true one sees these facts.
  func findings(_ facts: VerificationFacts, _ settings: VerificationSettings) -> [Finding] {
    var (facts, settings, rules) = (facts, settings, VerificationRule.all)
    if let leftOut { rules.removeAll { $0.name == leftOut } }
    switch self {
    case .seesNoCopy:
      facts.objects.removeAll { $0.tier > 0 }
      facts.manifests.removeAll { $0.tier > 0 }
      facts.unreadable[1] = nil
    case .seesNoSegments: facts.objects.removeAll(where: \.isSegment)
    case .seesNewestOnly:
      let newest = facts.status.rows.last
      facts.status.rows = newest.map { [$0] } ?? []
    case .seesOneManifest: facts.manifests = Array(facts.manifests.prefix(1))
    case .doublesAge: settings.maximumAge *= 2
    case .longLag: settings.lag = .seconds(1_000_000)
    default: break
    }
    return rules.flatMap { $0.judge(facts, settings) }.map(lenient)
  }

  private func lenient(_ finding: Finding) -> Finding {
    var finding = finding
    switch (self, finding.check, finding.severity) {
    case (.toleratesShrinking, "backup-size", .failure) where finding.evidence.contains("% less"):
      finding.severity = .passed
    case (.toleratesGrowth, "backup-size", .failure) where finding.evidence.contains("% more"):
      finding.severity = .passed
    case (.toleratesEmpty, "backup-size", .failure) where finding.evidence.hasPrefix("0 raw"):
      finding.severity = .passed
    case (.toleratesFuture, "backup-age", .failure) where finding.evidence.contains("from now"):
      finding.severity = .passed
    case (.obstacleIsPass, _, .couldNotVerify): finding.severity = .passed
    case (.obstacleIsNotChecked, _, .couldNotVerify): finding.severity = .notChecked
    case (.failureIsWarning, _, .failure): finding.severity = .warning
    case (.failureIsPass, _, .failure): finding.severity = .passed
    default: break
    }
    return finding
  }
}

/// The suite that the verification must satisfy, and that no mutant of it does.
@Suite struct MutantTests {
  /// Each damage, as the verification sees it: looked at once.
  private static let seen = Task { () -> [(Damage, VerificationFacts, VerificationSettings)] in
    var all: [(Damage, VerificationFacts, VerificationSettings)] = []
    for damage in Damage.allCases {
      let verification = try await damage.verification()
      all.append((damage, try await verification.facts(), verification.settings))
    }
    return all
  }

  /// The damages that are not found as they must be.
  private static func missed(
    by judge: (VerificationFacts, VerificationSettings) -> [Finding]
  ) async throws -> [Damage] {
    try await seen.value.filter { damage, facts, settings in
      let (check, severity) = damage.expected
      return !judge(facts, settings).contains { $0.check == check && $0.severity == severity }
    }.map(\.0)
  }

  @Test("The true verification misses nothing")
  func original() async throws {
    let missed = try await Self.missed { facts, settings in
      VerificationRule.all.flatMap { $0.judge(facts, settings) }
    }
    #expect(missed.isEmpty, "\(missed)")
  }

  @Test("A verification in which one thing is wrong is found out", arguments: MutantVerification.allCases)
  func mutants(mutant: MutantVerification) async throws {
    let missed = try await Self.missed(by: mutant.findings)
    #expect(!missed.isEmpty, "nobody noticed \(mutant.rawValue)")
  }

  @Test("Each rule has a mutant that leaves it out")
  func complete() {
    let names = Set(VerificationRule.all.map(\.name)).subtracting(["data-sample"])
    #expect(names.count == 22 && MutantVerification.allCases.count { $0.rawValue.hasPrefix("no") } == names.count)
  }
}
