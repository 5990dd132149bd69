public import DRCore

/// Where an S3 tier is and how it is used.
public struct S3Configuration: Sendable {
  /// How a bucket is named in a request.
  public enum Addressing: String, Sendable, Codable {
    /// In the host's name on Amazon's own endpoints, in the path elsewhere.
    case automatic
    case path
    case virtualHost
  }

  /// How the server keeps the bytes of new objects.
  public enum ServerEncryption: Sendable, Hashable {
    /// The bucket's default.
    case bucketDefault
    /// SSE-S3.
    case managed
    /// SSE-KMS. Key nil: the account's own key for S3. With a bucket key, KMS is asked once for many objects.
    case kms(key: String?, bucketKey: Bool)
    /// SSE-C, with a key of 32 bytes. Whoever loses it loses the objects.
    case customer(S3CustomerKey)
  }

  /// What is sent along for the server to compare with what it received. Every request's body is signed by its SHA-256
  /// besides, which a server that checks signatures compares too.
  public enum Checksum: String, Sendable, Codable {
    /// The best one that the server was seen to check, in this order.
    case automatic
    /// `x-amz-checksum-sha256`.
    case sha256
    /// `x-amz-content-sha256` alone, which is part of every signature.
    case signature
    /// `Content-MD5`.
    case md5
  }

  /// What is tried out of a server when a tier is opened.
  public enum Probing: Sendable {
    case everything
    /// All but what decides between two writers, which takes the longest; it is not offered then.
    case unconditional
    /// Nothing is written: the bucket is asked for its locks and versions, and nothing is offered that a write would need. For who
    /// lists, verifies, or removes.
    case reading
    /// Nothing is written, and nothing is asked: for who reads single objects.
    case nothing
  }

  public var bucket: String
  /// What every key starts with, without slashes at its ends; empty: the whole bucket.
  public var prefix: String
  public var region: String
  /// `https://host:port`; nil: Amazon's own in the region.
  public var endpoint: String?
  public var addressing: Addressing
  public var credentials: any S3CredentialsSource
  /// A PEM file of certificates to trust in place of the system's.
  public var certificateAuthority: String?
  public var encryption: ServerEncryption
  public var checksum: Checksum
  /// Of new objects, unless a put says otherwise; nil: the server's default.
  public var storageClass: StorageClass?
  /// Requests of one put or get that are under way at once. With the size of a part it bounds the memory: about
  /// `partSize × (concurrency + 1)`, up to parts of 16 MiB; larger ones go side by side as far as 64 MiB allow.
  public var concurrency: Int
  /// The least size of a part in bytes, from 5 MiB. Larger objects have larger ones, so that 10,000 suffice.
  public var partSize: Int
  /// Some servers want every part but the last of one size: then a stream of unknown length is limited to 10,000 parts of it.
  public var equalParts: Bool
  public var retries: RetryPolicy
  /// How long a connection may move nothing, and how long the server may think about a request.
  public var stallLimit: Duration
  /// What the server can do; nil: it is known (Amazon) or tried out once when the tier is opened.
  public var features: S3Features?
  /// How much is tried out, where the features are neither stated nor known.
  public var probing: Probing
  /// Addresses for host names, for tests.
  package var addresses: [String: String] = [:]

  public init(
    bucket: String, prefix: String = "", region: String = "us-east-1", endpoint: String? = nil,
    credentials: any S3CredentialsSource = S3CredentialsChain.standard()
  ) {
    self.bucket = bucket
    self.prefix = prefix
    self.region = region
    self.endpoint = endpoint
    addressing = .automatic
    self.credentials = credentials
    encryption = .bucketDefault
    checksum = .automatic
    concurrency = 4
    partSize = 8 << 20
    equalParts = false
    probing = .everything
    retries = RetryPolicy()
    stallLimit = .seconds(60)
  }

  /// Whether the endpoint is Amazon's own.
  var isAWS: Bool {
    guard let endpoint else { return true }
    let host = endpoint.split(separator: "/").last.map { $0.split(separator: ":")[0] } ?? ""
    return host == "amazonaws.com" || host.hasSuffix(".amazonaws.com") || host.hasSuffix(".amazonaws.com.cn")
  }
}

/// The key of SSE-C. Nothing shows it.
public struct S3CustomerKey: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  let bytes: [UInt8]

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` unless there are 32 bytes.
  public init(_ bytes: [UInt8]) throws {
    guard bytes.count == 32 else {
      throw DRError(.invalidConfiguration, "a customer's key for S3 has 32 bytes, not \(bytes.count)")
    }
    self.bytes = bytes
  }

  public var description: String { "S3CustomerKey" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: []) }
}
