import DRCore
import NIOCore

/// Tries out what a server does. A server that takes a header and ignores it is found out: only what was refused when it
/// had to be, and carried out when it could be, counts.
struct S3Probe {
  let client: S3Client
  let tier: String
  let prefix: String

  /// - Throws: ``DRCore/DRError`` if the bucket is not there or cannot be looked at.
  func checkBucket() async throws {
    do {
      _ = try await client.send(S3Request(.HEAD))
    } catch var failure as S3Failure {
      if failure.status == 404 { failure.code = "NoSuchBucket" }
      if failure.status == 301 { failure.code = "PermanentRedirect" }
      // Who may read objects and not the bucket is let through.
      if failure.status == 403 { return }
      throw failure.translated(tier, key: nil, writing: false)
    }
  }

  /// Object Lock and versions, which belong to the bucket.
  func bucketFeatures(_ known: S3Features) async throws -> S3Features {
    var features = known
    let versioning = try await ask("versioning", "VersioningConfiguration", "BucketVersioningConfiguration")
    features.versions = versioning?.text("Status") == "Enabled"
    features.objectLock =
      try await ask("object-lock", "ObjectLockConfiguration")?.text("ObjectLockEnabled") == "Enabled"
    return features
  }

  private func ask(_ what: String, _ roots: String...) async throws -> XMLElement? {
    do {
      let answer = try await client.send(S3Request(.GET, query: [(what, "")]))
      return roots.lazy.compactMap { try? answer.document($0) }.first
    } catch let failure as S3Failure {
      try refuseToGuess(failure)
      return nil
    } catch let error as DRError where error.code == .malformedData {
      return nil
    }
  }

  func features(_ probing: S3Configuration.Probing) async throws -> S3Features {
    if probing == .nothing { return S3Features() }
    var features = try await bucketFeatures(S3Features())
    if probing == .reading { return features }
    // Locked by the bucket's default, a probe's object could not be removed again.
    if features.objectLock, try await ask("object-lock", "ObjectLockConfiguration")?["Rule"] != nil { return features }
    let own = "\(prefix)\(ObjectKey.temporaryPrefix)probe-\(S3PutID.make())"
    let keepsVersions = features.versions
    let created = MutableBox<[(key: String, version: String?)]>([])
    do {
      let start = ContinuousClock.now
      if try await put("\(own)-a", "1", [], created) == nil { return features }
      features = try await tryOut(
        own, features, created, putTime: start.duration(to: .now),
        leavingOut: probing == .unconditional ? Question.aboutConditions : [])
    } catch {
      await remove(created.value, own, keepsVersions: keepsVersions)
      throw error
    }
    await remove(created.value, own, keepsVersions: keepsVersions)
    return features
  }

  typealias Created = MutableBox<[(key: String, version: String?)]>

  private func tryOut(
    _ own: String, _ known: S3Features, _ created: Created, putTime: Duration, leavingOut: Set<Question>
  ) async throws -> S3Features {
    // For as long as the server needs for some puts, it may look at requests that meet.
    let pause = min(max(putTime * 4, .milliseconds(100)), .seconds(2))
    let first = "\(own)-a"
    let wrongDigest = S3Digest.base64(hex: String(repeating: "0", count: 64))
    let rightDigest = S3Digest.base64(hex: S3Digest.sha256([ByteBuffer(string: "2")]))

    let attempts: [(Question, @Sendable () async throws -> Bool)] = [
      (.refusedIfThere, { try await isRefused(first, "2", [("if-none-match", "*")], 412, created) }),
      (
        .takenIfAbsent,
        {
          let headers = [(name: "if-none-match", value: "*"), ("x-amz-checksum-sha256", rightDigest)]
          return try await put("\(own)-b", "2", headers, created) != nil
        }
      ),
      (
        .refusedForDigest,
        { try await isRefused("\(own)-c", "3", [("x-amz-checksum-sha256", wrongDigest)], 400, created) }
      ),
      (.refusedForSignature, { try await isRefusedForBody("\(own)-d", created) }),
      (.refusedOnCompletion, { try await conditionalCompletion(first, created) }),
      (.archives, { try await archive("\(own)-f", created) }),
      (.hasClasses, { try await storageClass("\(own)-g", created) }),
      (
        .oneWins,
        { try await oneWins("\(own)-i", keys: 5, writers: 5, created, pause: pause) { _ in ("if-none-match", "*") } }
      ),
      (.swaps, { try await compareAndSwap("\(own)-h", created, pause, bare: false) }),
      (.swapsBare, { try await compareAndSwap("\(own)-j", created, pause, bare: true) }),
    ]
    let yes = try await withThrowingTaskGroup(of: (Question, Bool).self) { group in
      for (question, attempt) in attempts where !leavingOut.contains(question) {
        group.addTask { (question, try await attempt()) }
      }
      return try await group.reduce(into: Set<Question>()) { if $1.1 { $0.insert($1.0) } }
    }
    var features = known
    features.conditionalPut = yes.isSuperset(of: [.refusedIfThere, .takenIfAbsent, .oneWins])
    features.conditionalCompletion = features.conditionalPut && yes.contains(.refusedOnCompletion)
    features.checksum =
      yes.isSuperset(of: [.refusedForDigest, .takenIfAbsent])
      ? .sha256 : yes.contains(.refusedForSignature) ? .signature : .md5
    features.archive = yes.contains(.archives)
    features.storageClasses = features.archive || yes.contains(.hasClasses)
    features.compareAndSwap = yes.contains(.swaps) || yes.contains(.swapsBare)
    features.bareTags = features.compareAndSwap && !yes.contains(.swaps)
    return features
  }

  /// What is tried out, each by requests of its own.
  private enum Question {
    case refusedIfThere, takenIfAbsent, oneWins, refusedOnCompletion
    case refusedForDigest, refusedForSignature
    case archives, hasClasses
    case swaps, swapsBare

    static let aboutConditions: Set<Question> = [.refusedIfThere, .oneWins, .refusedOnCompletion, .swaps, .swapsBare]
  }

  private func storageClass(_ key: String, _ created: Created) async throws -> Bool {
    guard try await put(key, "4", [("x-amz-storage-class", "STANDARD_IA")], created) != nil else { return false }
    do {
      return try await client.send(S3Request(.HEAD, key)).header("x-amz-storage-class") == "STANDARD_IA"
    } catch let failure as S3Failure {
      try refuseToGuess(failure)
      return false
    }
  }

  /// Refused for another tag, taken for the right one, and by one of several at once.
  private func compareAndSwap(
    _ key: String, _ created: Created, _ pause: Duration, bare: Bool
  ) async throws -> Bool {
    @Sendable func tag(of key: String) async throws -> String? {
      try await put(key, "1", [], created)?.header("etag").map { bare ? S3Tier.bare($0) : $0 }
    }
    guard let old = try await tag(of: key) else { return false }
    let wrong = bare ? String(repeating: "0", count: 32) : "\"\(String(repeating: "0", count: 32))\""
    guard try await isRefused(key, "2", [("if-match", wrong)], 412, created) else { return false }
    guard try await put(key, "3", [("if-match", old)], created) != nil else { return false }
    guard try await isRefused(key, "4", [("if-match", old)], 412, created) else { return false }
    return try await oneWins(key, keys: 3, writers: 4, created, pause: pause) { key in
      try await tag(of: key).map { ("if-match", $0) }
    }
  }

  /// A completion over an object that is there.
  private func conditionalCompletion(_ key: String, _ created: Created) async throws -> Bool {
    let upload: String
    do {
      let answer = try await client.send(S3Request(.POST, key, query: [("uploads", "")]))
      upload = try answer.document("InitiateMultipartUploadResult").text("UploadId") ?? ""
    } catch let failure as S3Failure {
      try refuseToGuess(failure)
      return false
    }
    var isRefused = false
    do {
      var part = S3Request(.PUT, key, query: [("partNumber", "1"), ("uploadId", upload)])
      part.body = S3Body([ByteBuffer(string: "5")])
      let tag = try await client.send(part).header("etag") ?? ""
      var complete = S3Request(.POST, key, query: [("uploadId", upload)])
      complete.headers = [("if-none-match", "*")]
      complete.body = S3Body(
        S3Upload.completion([S3Upload.Part(number: 1, size: 1, tag: tag, sha256: "", isChecked: false)]))
      complete.mayFailInBody = true
      let answer = try await client.send(complete)
      created.withLock { $0.append((key, answer.header("x-amz-version-id"))) }
    } catch let failure as S3Failure {
      isRefused = failure.isPreconditionFailed
      _ = try? await client.send(S3Request(.DELETE, key, query: [("uploadId", upload)]))
      if !isRefused { try refuseToGuess(failure) }
    }
    return isRefused
  }

  /// Put into an archive class, an object must be refused to a reader.
  private func archive(_ key: String, _ created: Created) async throws -> Bool {
    guard try await put(key, "6", [("x-amz-storage-class", "GLACIER")], created) != nil else { return false }
    do {
      _ = try await client.send(S3Request(.GET, key))
      return false
    } catch let failure as S3Failure {
      try refuseToGuess(failure)
      return failure.code == "InvalidObjectState"
    }
  }

  /// A body that is not the one that was signed.
  private func isRefusedForBody(_ key: String, _ created: Created) async throws -> Bool {
    var request = S3Request(.PUT, key)
    request.body = S3Body(forged: ByteBuffer(string: "7"))
    request.isAttempt = true
    do {
      let answer = try await client.send(request)
      created.withLock { $0.append((key, answer.header("x-amz-version-id"))) }
      return false
    } catch let failure as S3Failure {
      try refuseToGuess(failure)
      return failure.status == 400 || failure.status == 403
    }
  }

  private func isRefused(
    _ key: String, _ text: String, _ headers: [(name: String, value: String)], _ status: Int, _ created: Created
  ) async throws -> Bool {
    do {
      _ = try await attempt(key, text, headers, created)
      return false
    } catch let failure as S3Failure {
      try refuseToGuess(failure)
      return failure.status == status && failure.code != "NotImplemented"
    }
  }

  /// Nil if it was refused.
  private func put(
    _ key: String, _ text: String, _ headers: [(name: String, value: String)], _ created: Created
  ) async throws -> S3Response? {
    do {
      return try await attempt(key, text, headers, created)
    } catch let failure as S3Failure {
      try refuseToGuess(failure)
      return nil
    }
  }

  /// What the network did, or a server that is overloaded, says nothing of what the server can do.
  func refuseToGuess(_ failure: S3Failure) throws {
    if failure.status == nil || (failure.isTransient && !failure.isDamage) {
      throw failure.translated(tier, key: nil, writing: true)
    }
  }

  private func attempt(
    _ key: String, _ text: String, _ headers: [(name: String, value: String)], _ created: Created
  ) async throws -> S3Response {
    var request = S3Request(.PUT, key)
    request.headers = headers
    request.body = S3Body([ByteBuffer(string: text)])
    request.isAttempt = true
    let answer = try await client.send(request)
    created.withLock { $0.append((key, answer.header("x-amz-version-id"))) }
    return answer
  }
}
