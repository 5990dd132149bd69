import ArgumentParser
import DRCore
import Foundation

extension TierPlace {
  /// Two names of one place are no two tiers: nothing would be compared, and nothing copied.
  ///
  /// - Throws: `ValidationError`; ``DRError`` with `invalidConfiguration` for a file or a URL that is not right.
  public static func refuseSame(_ places: [String]) throws {
    var seen: [String: String] = [:]
    for place in places {
      if let other = seen.updateValue(place, forKey: try identity(of: place)) {
        throw ValidationError(
          other == place
            ? "the tier \(place) is named twice: say a copy of it"
            : "\(other) and \(place) are one tier: say a copy of it")
      }
    }
  }

  /// The same for all names of one place, as far as names tell.
  private static func identity(of place: String, s3: S3Settings? = nil) throws -> String {
    if TierFile.isOne(place) {
      let file = try TierFile(place)
      return try identity(of: file.repository, s3: file.s3)
    }
    guard isBucket(place) else { return URL(fileURLWithPath: place).resolvingSymlinksInPath().standardizedFileURL.path }
    let configuration = try (s3 ?? S3Settings()).configuration(url: place)
    let endpoint = configuration.endpoint ?? configuration.region
    let host = String(endpoint.reversed().drop { $0 == "/" }.reversed())
    return "\(host.lowercased()) \(configuration.bucket)/\(configuration.prefix)"
  }
}
