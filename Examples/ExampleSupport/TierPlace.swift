public import DRCore
import DRStorage

/// A tier by its place: an absolute path, or `s3://bucket/prefix`.
public enum TierPlace {
  public static func isBucket(_ place: String) -> Bool { place.hasPrefix("s3://") }

  /// - Parameters:
  ///   - creating: Make the folder if there is none. A bucket is never made.
  ///   - s3: Nil: everything but the place from the environment.
  /// - Throws: ``DRError``: `invalidConfiguration`, `tierUnavailable`, `notWritable`.
  public static func open(_ place: String, creating: Bool, s3: S3Settings? = nil) async throws -> any StorageTier {
    if isBucket(place) { return try await S3Tier((s3 ?? S3Settings()).configuration(url: place)) }
    return try await LocalTier(root: place, creating: creating)
  }
}
