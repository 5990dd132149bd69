public import DRCore

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
}
