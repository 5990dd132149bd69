import DRCore
package import Foundation

/// Credentials kept, and renewed before they end: one renewal at a time, however many ask.
package actor S3CredentialsCache {
  /// How long before their end credentials are renewed.
  static let margin: TimeInterval = 300
  /// After a renewal that failed, while the old ones still hold.
  static let pause: TimeInterval = 30

  private let source: any S3CredentialsSource
  private let now: @Sendable () -> Date
  private var kept: S3Credentials?
  private var notBefore = Date.distantPast
  private var renewal: Task<S3Credentials, any Error>?

  package init(_ source: any S3CredentialsSource, now: @escaping @Sendable () -> Date = { Date() }) {
    self.source = source
    self.now = now
  }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` if no source has any; what the source throws, once the old
  ///   ones have ended.
  package func credentials() async throws -> S3Credentials {
    if let kept {
      guard let expires = kept.expires else { return kept }
      let left = expires.timeIntervalSince(now())
      if left > S3CredentialsCache.margin { return kept }
      if left > 0 {
        if now() < notBefore { return kept }
        do {
          return try await renew()
        } catch is CancellationError {
          throw CancellationError()
        } catch {
          notBefore = now() + S3CredentialsCache.pause
          return kept
        }
      }
    }
    return try await renew()
  }

  /// Says that the server refused these as ended: they are not used again.
  package func refused(_ credentials: S3Credentials) {
    if kept == credentials { kept = nil }
  }

  private func renew() async throws -> S3Credentials {
    if let renewal { return try await renewal.value }
    let source = source
    let task = Task {
      guard let found = try await source.credentials() else {
        throw DRError(
          .invalidConfiguration, "no credentials for S3 were found",
          advice: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile, or attach a role")
      }
      return found
    }
    renewal = task
    defer { renewal = nil }
    let found = try await task.value
    kept = found
    return found
  }
}
