public import DRCore

public import struct Foundation.Date

/// One version of an object, or the mark that it was removed.
public struct S3Version: Hashable, Sendable {
  public var key: ObjectKey
  public var id: String
  public var isLatest: Bool
  /// No object: from here on the key has none, until something is put again.
  public var isDeleteMarker: Bool
  /// In bytes; 0 for a delete marker.
  public var size: Int64
  /// On the server's clock.
  public var modified: Date
}

extension S3Tier {
  /// Every version of every object under a prefix, with the delete markers: what a bucket with versions really holds.
  ///
  /// - Throws: ``DRCore/DRError``: `tierUnavailable`, `timedOut`.
  public func versions(prefix: String) async throws -> [S3Version] {
    var versions: [S3Version] = []
    var markers: [(name: String, value: String)] = []
    while true {
      let query = [(name: "versions", value: ""), ("prefix", keyPrefix + prefix), ("encoding-type", "url")] + markers
      let page = try await send(S3Request(.GET, query: query), writing: false).document("ListVersionsResult")
      let isEncoded = page.text("EncodingType") == "url"
      func plain(_ text: String) -> String? { isEncoded ? PercentEncoding.decode(text) : text }
      for element in page.children where ["Version", "DeleteMarker"].contains(element.name) {
        guard let key = element.text("Key").flatMap(plain).flatMap(objectKey), let id = element.text("VersionId") else {
          continue
        }
        versions.append(
          S3Version(
            key: key, id: id, isLatest: element.text("IsLatest") == "true",
            isDeleteMarker: element.name == "DeleteMarker", size: element.text("Size").flatMap(Int64.init) ?? 0,
            modified: element.text("LastModified").flatMap(Timestamp.parse) ?? .distantPast))
      }
      guard page.text("IsTruncated") == "true", let key = page.text("NextKeyMarker").flatMap(plain) else {
        return versions
      }
      markers = [("key-marker", key), ("version-id-marker", page.text("NextVersionIdMarker") ?? "")]
    }
  }

  /// Removes one version for good. A delete marker that is removed brings the object back.
  ///
  /// - Throws: ``DRCore/DRError``: `objectLocked`, `notWritable`, `tierUnavailable`, `timedOut`.
  public func removeVersion(_ key: ObjectKey, _ id: String) async throws {
    do {
      _ = try await client.send(S3Request(.DELETE, try fullKey(key), query: [("versionId", id)]))
    } catch let failure as S3Failure {
      if failure.isNotFound { return }
      if failure.status == 403, features.objectLock, failure.code == "AccessDenied" {
        throw DRError(
          .objectLocked, "the version may not be removed: Object Lock holds it, or the credentials do not allow it",
          advice: "look at its retention", object: key.rawValue, cause: failure)
      }
      throw failure.translated(name, key: key.rawValue, writing: true)
    }
  }
}
