public import DRCore
import NIOCore

package import struct Foundation.Date

/// Objects in a bucket of Amazon S3, or of a server that speaks its protocol.
///
/// - An object is put in one request, or in parts of which several are under way; a crash leaves at most an unfinished
///   upload, which nothing shows and ``removeAbandonedUploads(olderThan:)`` removes (the bucket's lifecycle too, with
///   ``setAbandonedUploadsRule(days:)``).
/// - Every put is read back (size, entity tag, checksum) before it returns. Each carries a random name of its own in its
///   metadata: so a put whose answer was lost knows its own object again, and a conditional one is never taken for lost.
/// - A condition on an object of several parts needs the server to have it on the completion
///   (``S3Features/conditionalCompletion``). Where it does not, the check is made right before the completion: of two
///   writers that complete in the same instant, the later one's object stays, and the other is told if it looks then.
/// - In a bucket that keeps versions, what is replaced or removed stays as an older version: a lifecycle rule, or
///   ``removeVersion(_:_:)``, gives its space back.
///
/// The tier is a reference to connections; they are closed when the last one goes.
public struct S3Tier: StorageTier {
  public let name: String
  public let capabilities: TierCapabilities
  /// What the server was found to do.
  public let features: S3Features
  /// Whether the features are known: from the configuration, or by trying them out.
  let isProbed: Bool
  package let client: S3Client
  var configuration: S3Configuration { client.configuration }

  /// Opens a bucket. It must exist.
  ///
  /// Unless the configuration states the features, they are tried out with a few small objects below the prefix, which are
  /// removed again; nothing is written with ``S3Configuration/Probing/reading``. Credentials that may not write get a tier without the capabilities that concern writing.
  ///
  /// Whether the server encrypts as the configuration asks for is tried out too, unless it is Amazon's, or nothing is written.
  ///
  /// - Throws: ``DRCore/DRError``: `invalidConfiguration`, `unsupported` for an encryption that the server ignores,
  ///   `tierUnavailable`, `timedOut`.
  public init(_ configuration: S3Configuration) async throws {
    try await self.init(configuration, now: { Date() })
  }

  package init(_ given: S3Configuration, now: @escaping @Sendable () -> Date) async throws {
    var configuration = given
    while configuration.prefix.hasSuffix("/") { configuration.prefix.removeLast() }
    if !configuration.prefix.isEmpty { _ = try ObjectKey(configuration.prefix) }
    guard configuration.partSize >= 5 << 20, configuration.partSize <= 5 << 30, configuration.concurrency >= 1 else {
      throw DRError(.invalidConfiguration, "a part has 5 MiB to 5 GiB, and at least one is under way")
    }
    try S3Tier.refuseOpenCustomerKey(configuration)
    let client = try S3Client(configuration, now: now)
    let name = "s3://\(configuration.bucket)" + (configuration.prefix.isEmpty ? "" : "/\(configuration.prefix)")
    let probe = S3Probe(client: client, tier: name, prefix: S3Tier.keyPrefix(configuration))
    try await probe.checkBucket()
    var features: S3Features
    if let stated = configuration.features {
      features = stated
    } else {
      features =
        configuration.isAWS ? try await probe.bucketFeatures(.aws) : try await probe.features(configuration.probing)
    }
    isProbed =
      configuration.features != nil || configuration.isAWS
      || [.everything, .unconditional].contains(configuration.probing)
    if configuration.checksum != .automatic { features.checksum = configuration.checksum }
    self.client = client
    self.name = name
    self.features = features
    // That a server refuses a completion onto an object says nothing of two at once: moto lets several win.
    let decidesLarge = configuration.isAWS && features.conditionalPut && features.conditionalCompletion
    capabilities = features.capabilities.union(decidesLarge ? .conditionalLargePut : [])
    let writes = [.everything, .unconditional].contains(configuration.probing)
    if writes, !configuration.isAWS { try await tryOutEncryption() }
  }

  // MARK: Keys

  static func keyPrefix(_ configuration: S3Configuration) -> String {
    configuration.prefix.isEmpty ? "" : configuration.prefix + "/"
  }

  var keyPrefix: String { S3Tier.keyPrefix(configuration) }

  /// - Throws: ``DRCore/DRError`` with `invalidKey` if the prefix and the key are too long together.
  func fullKey(_ key: ObjectKey) throws -> String {
    let full = keyPrefix + key.rawValue
    guard full.utf8.count <= 1024 else {
      throw DRError(
        .invalidKey, "with the tier's prefix the key has more than the 1,024 bytes that S3 allows",
        advice: "use a shorter prefix", object: key.rawValue)
    }
    return full
  }

  /// Nil for what is no object of this tier: a foreign name, or one of the tier's own.
  func objectKey(_ full: String) -> ObjectKey? {
    guard full.utf8.starts(with: keyPrefix.utf8) else { return nil }
    return try? ObjectKey(String(Substring(full.utf8.dropFirst(keyPrefix.utf8.count))))
  }

  /// Sends, and says errors in the words of the contract.
  func send(_ request: S3Request, _ key: ObjectKey? = nil, writing: Bool) async throws -> S3Response {
    do {
      return try await client.send(request)
    } catch let failure as S3Failure {
      throw failure.translated(name, key: key?.rawValue, writing: writing)
    }
  }

  /// For an answer of "not found" that may speak of the bucket.
  func checkBucketIsThere() async throws {
    if client.wasSeenLately { return }
    try await S3Probe(client: client, tier: name, prefix: keyPrefix).checkBucket()
  }
}
