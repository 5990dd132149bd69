public import Logging

/// Looks at something and says what it saw.
public protocol Verifier: Sendable {
  /// Returns one finding for each check that ran, including those that passed.
  ///
  /// - Throws: ``DRError`` when it could not look. What was seen to be wrong is a finding, never a throw.
  func verify(logger: Logger) async throws -> [Finding]
}
