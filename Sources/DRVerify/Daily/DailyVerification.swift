public import DRCore
public import DRStorage
public import Logging

public import struct Foundation.Date

/// The daily look at a repository and its copies: is everything there, in its size, whole, young enough, readable from each tier
/// and complete, so that it could be restored.
///
/// It reads and writes nothing else. What could not be looked at is a finding of that severity, and hides nothing else; what was not
/// looked at is one too, with the reason.
///
/// | check | what must be so |
/// | --- | --- |
/// | `tier-reachable` | each tier answers |
/// | `backup-present` | each component has a backup |
/// | `backup-age` | the newest is not older than ``VerificationSettings/maximumAge``, and not of the future |
/// | `backup-size` | its raw size is within ``VerificationSettings/sizeTolerance`` of the median of those before it |
/// | `manifest-readable`, `manifest-schema`, `manifest-same` | each manifest on each tier is undamaged, follows its JSON Schema, and is the repository's |
/// | `artifact-present`, `artifact-size` | each artifact is there, in the size that its manifest states |
/// | `artifact-readable`, `segment-readable` | its first bytes can be read, on each tier |
/// | `artifact-digest`, `artifact-codec`, `segment-digest` | its bytes are what they were: SHA-256, frames, encryption |
/// | `backup-whole`, `backup-chain`, `backup-in-repository` | no backup is torn, lacks what it goes on from, or is on a copy alone |
/// | `log-complete`, `log-in-repository` | the change log has what the backups need, without a hole |
/// | `copy-present`, `backup-on-copy`, `log-on-copy` | what the repository has is on every copy |
public struct DailyVerification: Verifier {
  /// The repository first, then its copies.
  public var tiers: [Repository]
  /// Only this one; nil: all that are there.
  public var component: Component?
  public var settings: VerificationSettings
  /// With the identities that open what is encrypted. Without, its stored bytes are compared with their digest, and not opened.
  public var decoding: Decoding
  let now: @Sendable () -> Date
  package var rules = VerificationRule.all

  public init(
    _ repository: Repository, copies: [Repository] = [], component: Component? = nil,
    settings: VerificationSettings = VerificationSettings(), decoding: Decoding = Decoding(),
    now: @escaping @Sendable () -> Date = { Date() }
  ) {
    tiers = [repository] + copies
    self.component = component
    self.settings = settings
    self.decoding = decoding
    self.now = now
  }

  /// One or more findings for each check.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` for settings that can prove nothing; `CancellationError`.
  public func verify(logger: Logger) async throws -> [Finding] {
    try settings.check()
    let facts = try await facts()
    return rules.flatMap { $0.judge(facts, settings) }
  }

  /// As ``verify(logger:)``, with the settings' suppressions.
  public func report(logger: Logger) async -> VerificationReport {
    let subject = component.map { "\($0)" } ?? "all components"
    return await VerificationReport.run("\(subject) on \(tiers[0].tier.name)", self, logger: logger)
      .suppressing(settings.suppressions)
  }
}
