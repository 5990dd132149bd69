public import DRCore

extension S3Tier {
  /// A URL with which anybody may read the object until it expires: a secret for that long.
  ///
  /// - Parameter duration: From 1 second to 7 days; with temporary credentials no longer than they last.
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public func presignedGet(_ key: ObjectKey, validFor duration: Duration) async throws -> String {
    try await client.presigned(.GET, try fullKey(key), validFor: duration)
  }

  /// A URL with which anybody may write the object, in one request, until it expires.
  ///
  /// - Throws: As ``presignedGet(_:validFor:)``.
  public func presignedPut(_ key: ObjectKey, validFor duration: Duration) async throws -> String {
    try await client.presigned(.PUT, try fullKey(key), validFor: duration)
  }

  private static let ruleID = "disaster-recovery-abandoned-uploads"

  /// Has the bucket remove uploads below this tier's prefix that were never finished, after so many days. The bucket's
  /// other rules stay as they are.
  ///
  /// - Throws: ``DRCore/DRError``: `unsupported` where the server has no lifecycle rules, `notWritable`,
  ///   `tierUnavailable`, `timedOut`.
  public func setAbandonedUploadsRule(days: Int) async throws {
    var rules: [XMLElement] = []
    do {
      rules = try await client.send(S3Request(.GET, query: [("lifecycle", "")])).document("LifecycleConfiguration")
        .all("Rule")
    } catch let failure as S3Failure {
      guard failure.code == "NoSuchLifecycleConfiguration" || failure.status == 404 else {
        throw failure.translated(name, key: nil, writing: true)
      }
    }
    let id = keyPrefix.isEmpty ? S3Tier.ruleID : "\(S3Tier.ruleID)-\(keyPrefix.dropLast().prefix(200))"
    rules.removeAll { $0.text("ID") == id }
    rules.append(
      XMLElement(
        "Rule",
        children: [
          XMLElement("ID", text: id), XMLElement("Filter", children: [XMLElement("Prefix", text: keyPrefix)]),
          XMLElement("Status", text: "Enabled"),
          XMLElement(
            "AbortIncompleteMultipartUpload",
            children: [XMLElement("DaysAfterInitiation", text: "\(max(1, days))")]),
        ]))
    var request = S3Request(.PUT, query: [("lifecycle", "")])
    request.body = S3Body(XMLElement("LifecycleConfiguration", children: rules))
    request.headers = [("content-md5", S3Digest.base64(hex: S3Digest.md5(request.body.buffers)))]
    _ = try await send(request, writing: true)
  }
}
