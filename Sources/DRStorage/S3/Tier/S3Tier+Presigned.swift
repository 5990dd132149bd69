public import DRCore

extension S3Tier {
  /// A URL with which anybody may read the object until it expires: a secret for that long.
  ///
  /// - Parameter duration: From 1 second to 7 days; with temporary credentials no longer than they last.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public func presignedGet(_ key: ObjectKey, validFor duration: Duration) async throws -> String {
    try await client.presigned(.GET, try fullKey(key), validFor: duration)
  }

  /// A URL with which anybody may write the object, in one request, until it expires.
  ///
  /// - Throws: As ``presignedGet(_:validFor:)``.
  public func presignedPut(_ key: ObjectKey, validFor duration: Duration) async throws -> String {
    try await client.presigned(.PUT, try fullKey(key), validFor: duration)
  }
}
