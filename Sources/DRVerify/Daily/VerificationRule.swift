package import DRCore

/// One check of what was seen. It is pure: the same facts give the same findings.
package struct VerificationRule: Sendable {
  /// Of the check, as its findings have it.
  package let name: String
  package let judge: @Sendable (VerificationFacts, VerificationSettings) -> [Finding]

  package init(
    _ name: String, _ judge: @escaping @Sendable (VerificationFacts, VerificationSettings) -> [Finding]
  ) {
    self.name = name
    self.judge = judge
  }

  /// In the order of the report.
  package static let all: [VerificationRule] =
    [.tierReachable, .backupPresent, .backupAge, .backupSize] + manifests + objects + replication + [.dataSample]
}
