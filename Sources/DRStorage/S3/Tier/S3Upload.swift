import DRCore
import NIOCore

/// An upload in parts.
///
/// | after | is left by a crash | who cleans it |
/// | --- | --- | --- |
/// | created, some parts sent | an unfinished upload, shown by no call of the contract | `removeAbandonedUploads`, the bucket's lifecycle |
/// | completion sent | that, or the object, whole | the same, or nobody needs to |
///
/// It is aborted when it fails, but never once the completion is under way: that may have been carried out.
struct S3Upload: Sendable {
  struct Part: Sendable {
    var number: Int
    var size: Int
    /// As the server gave it.
    var tag: String
    /// In lower-case hexadecimal.
    var sha256: String
    /// The server took the checksum.
    var isChecked: Bool
  }

  let tier: S3Tier
  let key: ObjectKey
  let fullKey: String
  let putID: String
  let options: PutOptions

  /// - Returns: The answer to the completion, nil if it was lost and the object was seen to be this one; and the parts.
  func run(
    first: PartAssembler.Part, _ assembler: PartAssembler, _ plan: PartPlan
  ) async throws -> (response: S3Response?, parts: [Part]) {
    let upload = try await create()
    let parts: [Part]
    do {
      parts = try await send(first, assembler, plan, upload)
      try Task.checkCancellation()
      if options.onlyIfAbsent, !tier.features.conditionalCompletion, try await tier.head(key) != nil {
        throw S3Tier.exists(key)
      }
    } catch {
      await abort(upload)
      throw error
    }
    return (try await complete(upload, parts), parts)
  }

  private func create() async throws -> String {
    var request = S3Request(.POST, fullKey, query: [("uploads", "")])
    request.headers = tier.headers(for: options, putID: putID)
    if tier.features.checksum == .sha256 { request.headers.append(("x-amz-checksum-algorithm", "SHA256")) }
    let answer: XMLElement
    do {
      answer = try await tier.client.send(request).document("InitiateMultipartUploadResult")
    } catch let failure as S3Failure {
      throw tier.refusal(failure, key, storageClass: options.storageClass ?? tier.configuration.storageClass)
    }
    guard let id = answer.text("UploadId"), !id.isEmpty else {
      throw DRError(.malformedData, "the server gave an upload no name", object: key.rawValue)
    }
    return id
  }

  // MARK: Parts

  private func send(
    _ first: PartAssembler.Part, _ rest: PartAssembler, _ plan: PartPlan, _ upload: String
  ) async throws -> [Part] {
    try await withThrowingTaskGroup(of: Part.self) { group in
      var (assembler, parts, underWay, number) = (rest, [Part](), 0, 1)
      var next: PartAssembler.Part? = first
      while let part = next {
        guard number <= PartPlan.most else {
          throw DRError(
            .noSpace, "the object is larger than \(PartPlan.most) parts",
            advice: "say its length beforehand, or raise partSize",
            object: key.rawValue)
        }
        while underWay >= plan.concurrency(ofPart: number, most: tier.configuration.concurrency) {
          if let done = try await group.next() { parts.append(done) }
          underWay -= 1
        }
        let current = number
        group.addTask { try await send(part, current, upload) }
        underWay += 1
        number += 1
        next = part.isLast ? nil : try await assembler.next(plan.size(ofPart: number))
      }
      for try await part in group { parts.append(part) }
      return parts.sorted { $0.number < $1.number }
    }
  }

  private func send(_ part: PartAssembler.Part, _ number: Int, _ upload: String) async throws -> Part {
    var request = S3Request(.PUT, fullKey, query: [("partNumber", "\(number)"), ("uploadId", upload)])
    request.body = S3Body(part.buffers)
    request.headers = tier.checksum(request.body) + tier.customerKey()
    let answer = try await tier.send(request, key, writing: true)
    guard let tag = answer.header("etag"), !tag.isEmpty else {
      throw DRError(.malformedData, "the server gave part \(number) no entity tag", object: key.rawValue)
    }
    try tier.checkTag(answer, request.body, key)
    let checksum = answer.header("x-amz-checksum-sha256")
    if let checksum, checksum != S3Digest.base64(hex: request.body.sha256) {
      throw DRError(.corruptData, "the server stored another part \(number) than was sent", object: key.rawValue)
    }
    return Part(
      number: number, size: part.size, tag: tag, sha256: request.body.sha256, isChecked: checksum != nil)
  }

  // MARK: The commit

  /// From here on the upload may be an object: it is not aborted any more, unless the server said that it refused.
  private func complete(_ upload: String, _ parts: [Part]) async throws -> S3Response? {
    var request = S3Request(.POST, fullKey, query: [("uploadId", upload)])
    request.body = S3Body(S3Upload.completion(parts))
    request.headers = tier.customerKey()
    request.mayFailInBody = true
    if options.onlyIfAbsent, tier.features.conditionalCompletion { request.headers.append(("if-none-match", "*")) }
    if let tag = options.ifMatch { request.headers.append(("if-match", tier.matching(tag))) }
    do {
      let answer = try await tier.client.send(request)
      _ = try answer.document("CompleteMultipartUploadResult")
      return answer
    } catch let failure as S3Failure {
      if failure.mayHaveActed || failure.code == "NoSuchUpload" {
        // It may be there: the object itself knows. Looked at by a task of its own, so that cancellation cannot hinder it.
        let own = try await Task { try await tier.isOwn(key, fullKey, putID) }.value
        if own { return nil }
      }
      if failure.status != nil, !failure.mayHaveActed, !failure.isTransient { await abort(upload) }
      if failure.isPreconditionFailed { throw tier.preconditionError(options, key) }
      throw failure.translated(tier.name, key: key.rawValue, writing: true)
    } catch is CancellationError {
      if try await Task(operation: { try await tier.isOwn(key, fullKey, putID) }).value { return nil }
      throw CancellationError()
    }
  }

  static func completion(_ parts: [Part]) -> XMLElement {
    XMLElement(
      "CompleteMultipartUpload",
      children: parts.map { part in
        var children = [XMLElement("PartNumber", text: "\(part.number)"), XMLElement("ETag", text: part.tag)]
        if part.isChecked {
          children.append(XMLElement("ChecksumSHA256", text: S3Digest.base64(hex: part.sha256)))
        }
        return XMLElement("Part", children: children)
      })
  }

  /// In a task of its own: cancellation is the usual reason. Best effort.
  private func abort(_ upload: String) async {
    let request = S3Request(.DELETE, fullKey, query: [("uploadId", upload)])
    let client = tier.client
    await Task { _ = try? await client.send(request) }.value
  }
}
