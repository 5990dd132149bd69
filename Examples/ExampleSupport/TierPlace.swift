public import DRCore
public import DRStorage

/// A tier by its place: an absolute path, or `s3://bucket/prefix`.
public enum TierPlace {
  public static func isBucket(_ place: String) -> Bool { place.hasPrefix("s3://") }

  /// - Parameters:
  ///   - creating: Make the folder if there is none. A bucket is never made.
  ///   - s3: Nil: everything but the place from the environment.
  ///   - probing: What is tried out of a bucket's server.
  ///   - soleWriter: Who asks for it has seen to it that no other process writes there (``SoleWriterTier``).
  /// - Throws: ``DRError``: `invalidConfiguration`, `tierUnavailable`, `notWritable`.
  public static func open(
    _ place: String, creating: Bool, s3: S3Settings? = nil, probing: S3Configuration.Probing = .everything,
    soleWriter: Bool = false
  ) async throws -> any StorageTier {
    if isBucket(place) {
      var configuration = try (s3 ?? S3Settings()).configuration(url: place)
      configuration.probing = probing
      let tier = try await S3Tier(configuration)
      return soleWriter || s3?.soleWriter == true ? SoleWriterTier(tier) : tier
    }
    return try await LocalTier(root: place, creating: creating)
  }
}
