public import DRCore

extension S3Tier {
  /// What one copy request can take.
  private static let largestCopy: Int64 = 5 << 30

  /// On the server's own side, up to 5 GiB and without a condition or a lock; else read and written.
  public func copy(_ key: ObjectKey, to target: ObjectKey, _ options: PutOptions) async throws -> ObjectInfo {
    try checkSupported(options, for: target)
    let (source, destination) = (try fullKey(key), try fullKey(target))
    guard let info = try await head(key) else { throw S3Tier.absent(key) }
    func readAndWrite() async throws -> ObjectInfo {
      var options = options
      options.expectedLength = info.size
      return try await put(target, try await get(key, range: 0..<info.size), options)
    }
    let isLocked = options.lock != nil || options.legalHold
    if options.onlyIfAbsent || options.ifMatch != nil || isLocked || info.size > S3Tier.largestCopy {
      return try await readAndWrite()
    }
    if features.objectLock { try await checkUnlocked(target) }
    let putID = S3PutID.make()
    var request = S3Request(.PUT, destination)
    request.headers = headers(for: options, putID: putID) + customerKey(source: true)
    request.headers += [
      ("x-amz-copy-source", PercentEncoding.path("/\(configuration.bucket)/\(source)")),
      ("x-amz-metadata-directive", "REPLACE"),
    ]
    if let tag = info.entityTag { request.headers.append(("x-amz-copy-source-if-match", tag)) }
    request.mayFailInBody = true
    do {
      _ = try await client.send(request).document("CopyObjectResult")
    } catch let failure as S3Failure {
      // Some cannot copy what they have encrypted.
      if failure.isUnknownToServer { return try await readAndWrite() }
      if failure.isPreconditionFailed || failure.isNotFound {
        throw DRError(
          .tierUnavailable, "the object was replaced or removed while it was copied", advice: "copy it again",
          object: key.rawValue)
      }
      throw failure.translated(name, key: key.rawValue, writing: true)
    }
    guard let copied = try await head(target) else {
      throw DRError(.tierUnavailable, "the copy is not there right after it was made", object: target.rawValue)
    }
    guard copied.size == info.size else {
      throw DRError(.corruptData, "the copy has \(copied.size) bytes, not \(info.size)", object: target.rawValue)
    }
    return copied
  }
}
