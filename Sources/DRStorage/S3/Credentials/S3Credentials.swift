public import struct Foundation.Date

/// What signs requests. Nothing shows the secret: neither a description nor a mirror.
public struct S3Credentials: Hashable, Sendable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  public var accessKeyID: String
  public var secretAccessKey: String
  /// Of temporary credentials.
  public var sessionToken: String?
  /// When temporary credentials end; nil: never, or not known.
  public var expires: Date?

  public init(accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil, expires: Date? = nil) {
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
    self.sessionToken = sessionToken
    self.expires = expires
  }

  public var description: String { "S3Credentials(\(accessKeyID.prefix(4))…)" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

/// Where credentials come from.
public protocol S3CredentialsSource: Sendable {
  /// The credentials of now, or nil if this source has none and the next one is to be asked.
  ///
  /// - Throws: ``DRCore/DRError`` when the source is there and cannot be used: to fall over to another one would use
  ///   credentials that nobody meant.
  func credentials() async throws -> S3Credentials?
}

/// Credentials that are given.
public struct StaticS3Credentials: S3CredentialsSource {
  private let given: S3Credentials

  public init(_ credentials: S3Credentials) { given = credentials }

  public func credentials() -> S3Credentials? { given }
}
