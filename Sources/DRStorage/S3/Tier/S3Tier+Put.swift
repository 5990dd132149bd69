public import DRCore
import NIOCore

extension S3Tier {
  public func put(_ key: ObjectKey, _ body: ByteStream, _ options: PutOptions) async throws -> ObjectInfo {
    try checkSupported(options, for: key)
    let fullKey = try fullKey(key)
    if features.objectLock { try await checkUnlocked(key) }
    let plan = PartPlan(
      expected: options.expectedLength, least: configuration.partSize, equalParts: configuration.equalParts)
    var assembler = PartAssembler(body)
    let first = try await assembler.next(plan.size(ofPart: 1))
    try Task.checkCancellation()
    let putID = S3PutID.make()
    do {
      guard first.isLast else {
        let upload = S3Upload(tier: self, key: key, fullKey: fullKey, putID: putID, options: options)
        let (response, parts) = try await upload.run(first: first, assembler, plan)
        return try await locked(readBack(key, fullKey, Stored(putID, response, parts: parts)), options)
      }
      let body = S3Body(first.buffers)
      let response = try await putWhole(key, fullKey, body, putID, options)
      return try await locked(readBack(key, fullKey, Stored(putID, response, body)), options)
    } catch let error as DRError where error.code == .corruptData || error.code == .unsupported {
      // Seen to be damaged, or not encrypted, it must not be taken for an object. Best effort.
      let (client, tier) = (client, self)
      await Task {
        if (try? await tier.isOwn(key, fullKey, putID)) == true {
          _ = try? await client.send(S3Request(.DELETE, fullKey))
        }
      }.value
      throw error
    }
  }

  /// - Returns: Nil if the answer was lost and the object was seen to be this one.
  private func putWhole(
    _ key: ObjectKey, _ fullKey: String, _ body: S3Body, _ putID: String, _ options: PutOptions
  ) async throws -> S3Response? {
    var request = S3Request(.PUT, fullKey)
    request.body = body
    request.headers = headers(for: options, putID: putID)
    request.headers += checksum(body, needed: options.lock != nil || options.legalHold)
    if options.onlyIfAbsent { request.headers.append(("if-none-match", "*")) }
    if let tag = options.ifMatch { request.headers.append(("if-match", matching(tag))) }
    do {
      let response = try await client.send(request)
      try checkTag(response, body, key)
      return response
    } catch let failure as S3Failure {
      if failure.mayHaveActed, try await Task(operation: { try await isOwn(key, fullKey, putID) }).value { return nil }
      if failure.isPreconditionFailed { throw preconditionError(options, key) }
      // Compare-and-swap of what is not there.
      if failure.isNotFound, options.ifMatch != nil { throw preconditionError(options, key) }
      throw refusal(failure, key, storageClass: options.storageClass ?? configuration.storageClass)
    }
  }

  /// Whether the object under this key is the one that this put wrote.
  func isOwn(_ key: ObjectKey, _ fullKey: String, _ putID: String) async throws -> Bool {
    try await rawHead(key, fullKey)?.header(S3PutID.header) == putID
  }

  /// An entity tag as the server wants it in a condition.
  func matching(_ tag: String) -> String { features.bareTags ? S3Tier.bare(tag) : tag }

  static func exists(_ key: ObjectKey) -> DRError {
    DRError(.objectExists, "the object is there already", object: key.rawValue)
  }

  func preconditionError(_ options: PutOptions, _ key: ObjectKey) -> DRError {
    if options.onlyIfAbsent { return S3Tier.exists(key) }
    return DRError(
      .preconditionFailed, "the object is not the one that was to be replaced",
      advice: "read it again, then decide anew",
      object: key.rawValue)
  }

  /// Sees to the lock that was asked for: some servers forget it of an upload in parts.
  private func locked(_ info: ObjectInfo, _ options: PutOptions) async throws -> ObjectInfo {
    guard options.lock != nil || options.legalHold else { return info }
    func isMissing(_ info: ObjectInfo) -> Bool {
      if options.legalHold, !info.legalHold { return true }
      guard let lock = options.lock else { return false }
      guard let held = info.lock else { return true }
      return held.mode < lock.mode || held.until < lock.until
    }
    guard isMissing(info) else { return info }
    if let lock = options.lock { try await extendRetention(of: info.key, lock) }
    if options.legalHold { try await setLegalHold(true, on: info.key) }
    guard let now = try await head(info.key), !isMissing(now) else {
      throw DRError(
        .tierUnavailable, "the object was stored, and the server does not lock it",
        advice: "look at the bucket's Object Lock, then put it again", object: info.key.rawValue)
    }
    return now
  }

  // MARK: Reading back

  /// What an object must look like that was just put.
  private struct Stored {
    var putID: String
    var size: Int64
    /// As the server gave it.
    var tag: String?
    /// In base64; with the number of parts, if there are any.
    var sha256: String?

    init(_ putID: String, _ response: S3Response?, _ body: S3Body) {
      self.putID = putID
      size = Int64(body.size)
      tag = response?.header("etag")
      sha256 = S3Digest.base64(hex: body.sha256)
    }

    init(_ putID: String, _ response: S3Response?, parts: [S3Upload.Part]) {
      self.putID = putID
      size = parts.reduce(0) { $0 + Int64($1.size) }
      tag = (try? response?.document("CompleteMultipartUploadResult"))?.text("ETag")
      let digest = S3Digest.composite(parts.map(\.sha256), .sha256)
      sha256 = "\(S3Digest.base64(hex: digest))-\(parts.count)"
    }
  }

  /// Asks for the object and compares. Another one in its place was put by somebody else since, which is no failure of
  /// this put; none at all is.
  private func readBack(_ key: ObjectKey, _ fullKey: String, _ stored: Stored) async throws -> ObjectInfo {
    guard let response = try await rawHead(key, fullKey) else {
      throw DRError(
        .tierUnavailable, "the object is not there right after it was put",
        advice: "look for another process that removes objects here", object: key.rawValue)
    }
    let info = try objectInfo(key, response)
    guard response.header(S3PutID.header) == stored.putID else {
      return ObjectInfo(key: key, size: stored.size, modified: info.modified, entityTag: stored.tag)
    }
    try checkEncrypted(response, key)
    func differs(_ what: String) -> DRError {
      DRError(
        .corruptData, "the stored object has another \(what) than what was sent",
        advice: "put it again; look at the server's disks", object: key.rawValue)
    }
    guard info.size == stored.size else { throw differs("size") }
    if let tag = stored.tag.map(S3Tier.bare), !tag.isEmpty, tag != S3Tier.bare(info.entityTag ?? "") {
      throw differs("entity tag")
    }
    if let found = response.header("x-amz-checksum-sha256"), found != stored.sha256 { throw differs("SHA-256") }
    return info
  }

  /// Where the server compares nothing with what it received, its entity tag does: there it is the MD5, unless the
  /// bytes are encrypted with a key of their own.
  func checkTag(_ response: S3Response, _ body: S3Body, _ key: ObjectKey) throws {
    switch configuration.encryption {
    case .kms, .customer: return
    case .bucketDefault, .managed: break
    }
    guard features.checksum == .md5, let tag = response.header("etag").map(S3Tier.bare), tag.utf8.count == 32,
      Hex.bytes(tag) != nil
    else { return }
    guard tag.lowercased() == S3Digest.md5(body.buffers) else {
      throw DRError(
        .corruptData, "the server received other bytes than were sent", advice: "put the object again",
        object: key.rawValue)
    }
  }

  static func bare(_ tag: String) -> String { tag.filter { $0 != "\"" } }
}
