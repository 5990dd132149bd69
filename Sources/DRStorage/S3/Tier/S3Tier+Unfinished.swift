public import DRCore

public import struct Foundation.Date

/// What killed puts, and killed trials of a server, have left in a bucket.
extension S3Tier {
  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    var removed = 0
    for leftover in try await leftovers() where leftover.upload.alive < date {
      do {
        _ = try await client.send(S3Request(.DELETE, leftover.key, query: leftover.query))
        removed += 1
      } catch let failure as S3Failure {
        // Finished, or removed by another, since.
        guard failure.isNotFound else { throw failure.translated(name, key: leftover.upload.name, writing: true) }
      }
    }
    return removed
  }

  public func unfinishedUploads() async throws -> [UnfinishedUpload] { try await leftovers().map(\.upload) }

  /// With what removes it.
  private struct Leftover {
    var upload: UnfinishedUpload
    /// With the tier's prefix.
    var key: String
    var query: [(name: String, value: String)] = []
  }

  private func leftovers() async throws -> [Leftover] {
    let uploads = try await uploads()
    guard features.versions else { return uploads + (try await probes()) }
    do {
      return uploads + (try await probeVersions())
    } catch let error as DRError where error.code == .notWritable {
      // Whoever may not list versions sees the newest ones, and hides them.
      return uploads + (try await probes())
    }
  }

  private func leftover(
    _ kind: UnfinishedUpload.Kind, _ key: String, size: Int64, alive: Date, query: [(name: String, value: String)] = []
  ) -> Leftover {
    let name = String(Substring(key.utf8.dropFirst(keyPrefix.utf8.count)))
    return Leftover(
      upload: UnfinishedUpload(kind: kind, name: name, size: size, alive: alive), key: key, query: query)
  }

  // MARK: Uploads in parts

  private func uploads() async throws -> [Leftover] {
    var found: [Leftover] = []
    let first = [(name: "uploads", value: ""), ("prefix", keyPrefix), ("max-uploads", "1000")]
    var query = first
    while true {
      let page = try await send(S3Request(.GET, query: query), writing: true).document("ListMultipartUploadsResult")
      for upload in page.all("Upload") {
        guard let key = upload.text("Key"), let id = upload.text("UploadId"), key.hasPrefix(keyPrefix),
          let started = upload.text("Initiated").flatMap(Timestamp.parse), let parts = try await parts(key, id)
        else { continue }
        found.append(
          leftover(
            .upload, key, size: parts.size, alive: max(started, parts.newest ?? started), query: [("uploadId", id)]))
      }
      guard page.text("IsTruncated") == "true", let key = page.text("NextKeyMarker") else { return found }
      query = first + [("key-marker", key), ("upload-id-marker", page.text("NextUploadIdMarker") ?? "")]
    }
  }

  /// A put that still runs sends parts, which keeps its upload young. Nil: it has ended since it was listed.
  private func parts(_ key: String, _ upload: String) async throws -> (size: Int64, newest: Date?)? {
    var query = [(name: "uploadId", value: upload)]
    var (size, newest) = (Int64(0), Date?.none)
    while true {
      let page: XMLElement
      do {
        page = try await client.send(S3Request(.GET, key, query: query)).document("ListPartsResult")
      } catch let failure as S3Failure {
        if failure.isNotFound { return nil }
        throw failure.translated(name, key: key, writing: true)
      }
      for part in page.all("Part") {
        size += part.text("Size").flatMap(Int64.init) ?? 0
        guard let time = part.text("LastModified").flatMap(Timestamp.parse) else { continue }
        newest = max(newest ?? time, time)
      }
      guard page.text("IsTruncated") == "true", let next = page.text("NextPartNumberMarker") else {
        return (size, newest)
      }
      query = [("uploadId", upload), ("part-number-marker", next)]
    }
  }

  // MARK: Probes

  /// What the trying out of a server has left, when it was killed.
  private var probePrefix: String { "\(keyPrefix)\(ObjectKey.temporaryPrefix)probe-" }

  private func probes() async throws -> [Leftover] {
    var (found, after) = ([Leftover](), String?.none)
    while true {
      var query = [(name: "list-type", value: "2"), ("prefix", probePrefix), ("max-keys", "1000")]
      if let after { query.append(("start-after", after)) }
      let page = try await send(S3Request(.GET, query: query), writing: true).document("ListBucketResult")
      found += page.all("Contents").compactMap { probe($0, query: []) }
      guard page.text("IsTruncated") == "true", let last = page.all("Contents").last?.text("Key") else { return found }
      after = last
    }
  }

  /// In a bucket that keeps versions, each of them, and each mark of a removal: to remove the key alone would add another one.
  private func probeVersions() async throws -> [Leftover] {
    var (found, markers) = ([Leftover](), [(name: String, value: String)]())
    while true {
      let query = [(name: "versions", value: ""), ("prefix", probePrefix)] + markers
      let page = try await send(S3Request(.GET, query: query), writing: true).document("ListVersionsResult")
      found += page.children.filter { ["Version", "DeleteMarker"].contains($0.name) }.compactMap { element in
        element.text("VersionId").flatMap { probe(element, query: [("versionId", $0)]) }
      }
      guard page.text("IsTruncated") == "true", let key = page.text("NextKeyMarker") else { return found }
      markers = [("key-marker", key), ("version-id-marker", page.text("NextVersionIdMarker") ?? "")]
    }
  }

  private func probe(_ element: XMLElement, query: [(name: String, value: String)]) -> Leftover? {
    guard let key = element.text("Key"), key.hasPrefix(probePrefix),
      let time = element.text("LastModified").flatMap(Timestamp.parse)
    else { return nil }
    return leftover(.probe, key, size: element.text("Size").flatMap(Int64.init) ?? 0, alive: time, query: query)
  }
}
