import DRCore

/// A rule of a bucket's lifecycle, as far as this package has to do with it.
public struct S3LifecycleRule: Hashable, Sendable {
  public var id: String
  /// What the keys start with that it is about; empty: the whole bucket, as far as no tag or size is a condition.
  public var prefix: String
  public var isEnabled: Bool
  /// After how many days it removes uploads that were never finished; nil: it does not.
  public var abandonedUploadsDays: Int?
  /// What else it does, by the names of its elements: `Expiration`, `Transition`.
  public var otherActions: [String]

  init(_ element: XMLElement) {
    let filter = element["Filter"]
    id = element.text("ID") ?? ""
    prefix = filter?.text("Prefix") ?? filter?["And"]?.text("Prefix") ?? element.text("Prefix") ?? ""
    isEnabled = element.text("Status") == "Enabled"
    abandonedUploadsDays = element["AbortIncompleteMultipartUpload"]?.text("DaysAfterInitiation").flatMap { Int($0) }
    let others: Set = ["ID", "Filter", "Prefix", "Status", "AbortIncompleteMultipartUpload"]
    otherActions = element.children.map(\.name).filter { !others.contains($0) }
  }
}

extension S3Tier {
  private static let ruleID = "disaster-recovery-abandoned-uploads"

  /// The rules of the bucket's lifecycle, whoever made them, about whatever part of the bucket.
  ///
  /// - Throws: ``DRCore/DRError``: `unsupported` where the server has no lifecycle rules, `tierUnavailable`, `timedOut`.
  public func lifecycleRules() async throws -> [S3LifecycleRule] { try await ruleElements().map(S3LifecycleRule.init) }

  /// Has the bucket remove uploads below this tier's prefix that were never finished, after so many days. The bucket's
  /// other rules stay as they are; a former one of this tier is replaced.
  ///
  /// The rules are one document that is replaced whole: of two that change it at the same moment, the later one stays.
  ///
  /// - Returns: All the bucket's rules, as it has them afterwards.
  /// - Throws: ``DRCore/DRError``: `unsupported` where the server has no lifecycle rules, `notWritable`,
  ///   `tierUnavailable`, `timedOut`.
  @discardableResult
  public func setAbandonedUploadsRule(days: Int) async throws -> [S3LifecycleRule] {
    var rules = try await ruleElements()
    let before = rules.count
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
    do {
      _ = try await client.send(request)
    } catch let failure as S3Failure {
      throw lifecycleError(failure, "s3:PutLifecycleConfiguration")
    }
    let now = try await lifecycleRules()
    guard now.count >= before, now.contains(where: { $0.id == id && $0.abandonedUploadsDays == max(1, days) }) else {
      throw DRError(
        .tierUnavailable, "\(name) took the rule, and has another one",
        advice: "look at the bucket's lifecycle rules: somebody else may be changing them")
    }
    return now
  }

  private func ruleElements() async throws -> [XMLElement] {
    do {
      return try await client.send(S3Request(.GET, query: [("lifecycle", "")])).document("LifecycleConfiguration")
        .all("Rule")
    } catch let failure as S3Failure {
      if failure.code == "NoSuchLifecycleConfiguration" { return [] }
      throw lifecycleError(failure, "s3:GetLifecycleConfiguration")
    }
  }

  /// A server that does not know the question may answer another one, with success.
  private func lifecycleError(_ failure: S3Failure, _ permission: String) -> DRError {
    if failure.isUnknownToServer || failure.status == 200 || failure.code == "MalformedXML" {
      return DRError(
        .unsupported, "\(name): this server has no lifecycle rules",
        advice: "run dr-tier clean, or dr-repository clean, once a day instead", cause: failure)
    }
    var error = failure.translated(name, key: nil, writing: true)
    if failure.status == 403 { error.advice = "the credentials need \(permission) on the bucket" }
    return error
  }
}
