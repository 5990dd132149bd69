import DRCore
import Foundation

/// A tier described by a file, for programs that are told of a place alone: its `repository` and its `s3`. The configuration file of
/// a program that backs up is one; its other fields are of no interest here.
struct TierFile: Decodable {
  var repository: String
  var s3: S3Settings?

  private enum CodingKeys: String, CodingKey { case repository, s3 }

  /// Whether a place is such a file.
  static func isOne(_ place: String) -> Bool {
    var isFolder: ObjCBool = false
    return place.hasSuffix(".json") && !TierPlace.isBucket(place)
      && FileManager.default.fileExists(atPath: place, isDirectory: &isFolder) && !isFolder.boolValue
  }

  /// - Throws: ``DRError`` with `invalidConfiguration` naming the file and the field.
  init(_ path: String) throws {
    func refuse(_ what: String, _ cause: (any Error)? = nil) -> DRError {
      DRError(
        .invalidConfiguration, "the file of a tier \(what)",
        advice: "it is a JSON object with repository and s3, or the configuration file of a program", object: path,
        cause: cause)
    }
    let fields: [String: JSONValue]
    do {
      let data = try Data(contentsOf: URL(fileURLWithPath: path))
      fields = try JSONDecoder().decode([String: JSONValue].self, from: data)
      self = try JSONDecoder().decode(TierFile.self, from: data)
    } catch {
      throw refuse("is not right", error)
    }
    var unknown = fields.keys.filter { !RepositoryConfiguration.fields.contains($0) }
    if case .object(let s3)? = fields["s3"] { unknown += s3.keys.filter { !S3Settings.fields.contains($0) } }
    if let unknown = unknown.first { throw refuse("has a field '\(unknown.prefix(40))' that is not known") }
    guard !TierFile.isOne(repository) else { throw refuse("must name a folder or a bucket, not another file") }
    guard repository.hasPrefix("/") || TierPlace.isBucket(repository) else {
      throw refuse("must name the repository's folder by an absolute path, or a bucket as s3://bucket/prefix")
    }
  }
}
