public import DRCore

public import struct Foundation.Date

extension S3Tier {
  public func delete(_ key: ObjectKey) async throws {
    if features.objectLock { try await checkUnlocked(key) }
    do {
      _ = try await client.send(S3Request(.DELETE, try fullKey(key)))
    } catch let failure as S3Failure {
      if failure.isNotFound { return try await checkBucketIsThere() }
      throw failure.translated(name, key: key.rawValue, writing: true)
    }
  }

  /// In requests of up to 1,000 keys.
  public func deleteAll(_ keys: [ObjectKey]) async throws -> [ObjectKey: DRError] {
    var failures: [ObjectKey: DRError] = [:]
    var rest = Array(Set(keys)).sorted()[...]
    if features.objectLock {
      failures = try await concurrently(Array(rest)) { try await checkUnlocked($0) }
      rest.removeAll { failures[$0] != nil }
    }
    while !rest.isEmpty {
      try Task.checkCancellation()
      let batch = rest.prefix(1000)
      rest = rest.dropFirst(1000)
      failures.merge(try await deleteBatch(batch)) { $1 }
    }
    return failures
  }

  private func deleteBatch(_ keys: ArraySlice<ObjectKey>) async throws -> [ObjectKey: DRError] {
    var request = S3Request(.POST, query: [("delete", "")])
    request.body = S3Body(
      XMLElement(
        "Delete",
        children: [XMLElement("Quiet", text: "false")]
          + (try keys.map { XMLElement("Object", children: [XMLElement("Key", text: try fullKey($0))]) })))
    // Amazon wants a checksum of this one besides the signature.
    request.headers = [("content-md5", S3Digest.base64(hex: S3Digest.md5(request.body.buffers)))]
    request.mayFailInBody = true
    let answer = try await send(request, writing: true).document("DeleteResult")
    var open = Set(keys)
    var failures: [ObjectKey: DRError] = [:]
    for done in answer.all("Deleted") {
      if let key = done.text("Key").flatMap(objectKey) { open.remove(key) }
    }
    for failed in answer.all("Error") {
      guard let key = failed.text("Key").flatMap(objectKey) else { continue }
      open.remove(key)
      let code = failed.text("Code")
      if code == "NoSuchKey" { continue }
      let status = ["AccessDenied": 403, "InternalError": 500, "SlowDown": 503][code ?? ""] ?? 400
      failures[key] = S3Failure(status: status, code: code, detail: failed.text("Message")).translated(
        name, key: key.rawValue, writing: true)
    }
    // Neither done nor refused: nothing is known of it.
    for key in open {
      failures[key] = DRError(
        .tierUnavailable, "the server did not say whether it removed the object", advice: "remove it again",
        object: key.rawValue)
    }
    return failures
  }

  /// The server keeps a locked object as an older version and lets its key go: for who reads by the key it would be
  /// removed all the same.
  func checkUnlocked(_ key: ObjectKey) async throws {
    guard let info = try await head(key) else { return }
    let until = info.lock.map(\.until).flatMap { $0 > client.serverNow ? $0 : nil }
    guard until != nil || info.legalHold else { return }
    throw DRError(
      .objectLocked,
      until.map { "the object is locked until \(Timestamp.format($0))" } ?? "the object is under a legal hold",
      advice: info.legalHold ? "let the hold go first, if that is allowed" : "wait until then", object: key.rawValue)
  }

  /// Runs one request for each key, some at once. An error that is not one key's own ends all.
  func concurrently(
    _ keys: [ObjectKey], _ body: @escaping @Sendable (ObjectKey) async throws -> Void
  ) async throws -> [ObjectKey: DRError] {
    try await withThrowingTaskGroup(of: (ObjectKey, DRError?).self) { group in
      var failures: [ObjectKey: DRError] = [:]
      var underWay = 0
      for key in keys {
        if underWay >= configuration.concurrency * 4, let (key, error) = try await group.next() {
          failures[key] = error
          underWay -= 1
        }
        underWay += 1
        group.addTask {
          do {
            try await body(key)
            return (key, nil)
          } catch let error as DRError {
            return (key, error)
          }
        }
      }
      for try await (key, error) in group { failures[key] = error }
      return failures
    }
  }

  // MARK: Abandoned uploads

  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    var removed = 0
    var query = [(name: "uploads", value: ""), ("prefix", keyPrefix), ("max-uploads", "1000")]
    while true {
      let page = try await send(S3Request(.GET, query: query), writing: true).document("ListMultipartUploadsResult")
      for upload in page.all("Upload") {
        guard let key = upload.text("Key"), let id = upload.text("UploadId"), key.hasPrefix(keyPrefix),
          let started = upload.text("Initiated").flatMap(Timestamp.parse), started < date,
          try await isIdle(key, id, since: date)
        else { continue }
        do {
          _ = try await client.send(S3Request(.DELETE, key, query: [("uploadId", id)]))
          removed += 1
        } catch let failure as S3Failure {
          // Finished, or removed by another, since.
          guard failure.isNotFound else { throw failure.translated(name, key: key, writing: true) }
        }
      }
      guard page.text("IsTruncated") == "true", let key = page.text("NextKeyMarker") else { break }
      query = [
        ("uploads", ""), ("prefix", keyPrefix), ("max-uploads", "1000"), ("key-marker", key),
        ("upload-id-marker", page.text("NextUploadIdMarker") ?? ""),
      ]
    }
    return removed + (try await removeProbes(olderThan: date))
  }

  /// A put that still runs sends parts, which keeps its upload young.
  private func isIdle(_ key: String, _ upload: String, since date: Date) async throws -> Bool {
    var query = [(name: "uploadId", value: upload)]
    while true {
      let parts: XMLElement
      do {
        parts = try await client.send(S3Request(.GET, key, query: query)).document("ListPartsResult")
      } catch let failure as S3Failure {
        if failure.isNotFound { return false }
        throw failure.translated(name, key: key, writing: true)
      }
      if parts.all("Part").contains(where: {
        ($0.text("LastModified").flatMap(Timestamp.parse) ?? .distantPast) >= date
      }) {
        return false
      }
      guard parts.text("IsTruncated") == "true", let next = parts.text("NextPartNumberMarker") else { return true }
      query = [("uploadId", upload), ("part-number-marker", next)]
    }
  }

  /// What the trying out of a server has left, when it was killed.
  private func removeProbes(olderThan date: Date) async throws -> Int {
    let request = S3Request(
      .GET,
      query: [("list-type", "2"), ("prefix", "\(keyPrefix)\(ObjectKey.temporaryPrefix)probe-"), ("max-keys", "1000")])
    let page = try await send(request, writing: true).document("ListBucketResult")
    var removed = 0
    for entry in page.all("Contents") {
      guard let key = entry.text("Key"), let time = entry.text("LastModified").flatMap(Timestamp.parse), time < date
      else { continue }
      _ = try await send(S3Request(.DELETE, key), writing: true)
      removed += 1
    }
    return removed
  }
}
