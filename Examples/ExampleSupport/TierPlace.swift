public import DRCore
public import DRStorage
import Foundation

/// A tier by its place: an absolute path, or `s3://bucket/prefix`; or a file that describes it (``TierFile``).
public enum TierPlace {
  public static func isBucket(_ place: String) -> Bool { place.hasPrefix("s3://") }

  /// - Parameters:
  ///   - creating: Make the folder if there is none. A bucket is never made.
  ///   - adopting: With `creating`: also in a folder that holds something (``LocalTier``).
  ///   - command: The command that makes the folder, to be named where there is none.
  ///   - s3: Nil: everything but the place from the environment.
  ///   - probing: What is tried out of a bucket's server. `reading`, unless something is going to be written.
  ///   - soleWriter: Who asks for it has seen to it that no other process writes there (``SoleWriterTier``).
  /// - Throws: ``DRError``: `invalidConfiguration`, `tierUnavailable`, `notWritable`.
  public static func open(
    _ place: String, creating: Bool, adopting: Bool = false, command: String? = nil, s3: S3Settings? = nil,
    probing: S3Configuration.Probing = .everything,
    soleWriter: Bool = false
  ) async throws -> any StorageTier {
    if TierFile.isOne(place) {
      let file = try TierFile(place)
      return try await open(
        file.repository, creating: creating, adopting: adopting, command: command, s3: file.s3 ?? S3Settings(),
        probing: probing, soleWriter: soleWriter)
    }
    if isBucket(place) {
      var configuration = try (s3 ?? S3Settings()).configuration(url: place)
      configuration.probing = probing
      let tier = try await S3Tier(configuration)
      return soleWriter || s3?.soleWriter == true ? SoleWriterTier(tier) : tier
    }
    do {
      return try await LocalTier(root: place, creating: creating, adopting: adopting)
    } catch var error as DRError where !creating && error.code == .tierUnavailable && !isMarked(place) {
      error.advice =
        "mount its volume, if it is on one. If it was never made: \(command ?? "dr-tier init --tier '\(place)'")"
      throw error
    }
  }

  private static func isMarked(_ place: String) -> Bool {
    FileManager.default.fileExists(atPath: "\(place)/\(LocalTier.marker)")
  }
}
