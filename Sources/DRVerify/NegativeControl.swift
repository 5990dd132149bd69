public import DRCore
import DRStorage
public import Logging

/// Damages a copy of what is verified, and sees that the same verification fails on it: one that was never seen to fail proves nothing.
public enum NegativeControl {
  /// What is done to the copy. The repository is never touched: stored objects are read through a ``DamagedTier``, servers are sandboxes.
  public enum Damage: String, Sendable, Codable, CaseIterable {
    case flippedByte = "a flipped byte"
    case missingSegment = "a missing WAL segment"
    case removedRow = "a removed row"
    case truncatedDump = "a truncated RDB"
    case lostMessage = "a lost message"
  }

  /// What to think of a verification that was run on what is sound, and again on what was damaged.
  ///
  /// - Returns: Passed if the second has a failure that the first has not. If the first could not look, neither is known.
  public static func finding(
    _ damage: Damage, _ subject: String, sound: VerificationReport, damaged: VerificationReport
  ) -> Finding {
    func finding(_ severity: Finding.Severity, _ evidence: String, _ advice: String?) -> Finding {
      Finding(
        "negative-control", severity, subject: "\(damage.rawValue): \(subject)", evidence: evidence, advice: advice)
    }
    if let obstacle = sound.obstacle ?? damaged.obstacle {
      return finding(.couldNotVerify, "the verification could not look: \(obstacle)", "make it possible, and try again")
    }
    func names(_ report: VerificationReport) -> [Finding: String] {
      Dictionary(
        report.findings.filter { $0.severity == .failure }.map { ($0, "\($0.check) \($0.subject)") },
        uniquingKeysWith: { first, _ in first })
    }
    let before = Set(names(sound).values)
    let noticed = names(damaged).filter { !before.contains($0.value) }.keys
      .sorted { ($0.check, $0.subject) < ($1.check, $1.subject) }
    guard let first = noticed.first else {
      return finding(
        .failure, "the verification noticed nothing", "its passes prove nothing of this kind: do not rely on them")
    }
    return finding(.passed, "noticed by \(first.check): \(first.evidence)", nil)
  }

  /// Runs a daily verification on its repository with one object damaged.
  ///
  /// - Parameter sound: What it says of the repository as it is.
  public static func finding(
    _ damage: Damage, to key: ObjectKey, as change: DamagedTier.Damage, of verification: DailyVerification,
    sound: VerificationReport, logger: Logger
  ) async -> Finding {
    var damaged = verification
    let original = verification.tiers[0]
    damaged.tiers[0] = Repository(tier: DamagedTier(original.tier, damaging: key, by: change), layout: original.layout)
    return finding(damage, "\(key)", sound: sound, damaged: await damaged.report(logger: logger))
  }
}
