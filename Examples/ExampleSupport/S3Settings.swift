public import DRCore
public import DRStorage
import Foundation

/// What a configuration file says of a repository in a bucket, besides its URL: the field `s3`. Nothing here is a secret;
/// credentials are named, not given.
///
///     "s3": {
///       "endpoint": "https://minio.internal:9000",
///       "region": "eu-central-1",
///       "credentials": "profile:backup",
///       "certificateAuthority": "/etc/ssl/internal.pem",
///       "storageClass": "STANDARD_IA",
///       "encryption": "aws:kms:alias/backup"
///     }
///
/// `encryption` is `AES256` (SSE-S3), `aws:kms` or `aws:kms:KEY` (SSE-KMS), or with a key of your own (SSE-C) `SSE-C:file:PATH` or
/// `SSE-C:environment:NAME`: 32 bytes, in base64, in hexadecimal, or in a file as they are.
///
/// All of it may be left out. On a server that cannot decide between two writers (no conditional put), backups need
/// `"soleWriter": true`, by which you promise that there is one. `credentials` is `environment`, `profile:NAME` or `file:PATH` (a file as
/// `~/.aws/credentials`); without it they are looked for as the AWS tools do.
public struct S3Settings: Codable, Sendable {
  public var endpoint: String?
  public var region: String?
  public var credentials: String?
  public var certificateAuthority: String?
  /// `path` or `virtualHost`.
  public var addressing: S3Configuration.Addressing?
  public var storageClass: StorageClass?
  /// `AES256`, `aws:kms`, `aws:kms:KEY`, `SSE-C:file:PATH` or `SSE-C:environment:NAME`.
  public var encryption: String?
  public var concurrency: Int?
  /// What the server can do: then it is not tried out at every start.
  public var features: S3Features?
  /// No other process writes there: the repository may be on a server without conditional put.
  public var soleWriter: Bool?

  public init(
    endpoint: String? = nil, region: String? = nil, credentials: String? = nil, certificateAuthority: String? = nil
  ) {
    self.endpoint = endpoint
    self.region = region
    self.credentials = credentials
    self.certificateAuthority = certificateAuthority
  }

  static let fields: Set = [
    "endpoint", "region", "credentials", "certificateAuthority", "addressing", "storageClass", "encryption",
    "concurrency", "features", "soleWriter",
  ]

  /// - Throws: ``DRError`` with `invalidConfiguration`.
  func configuration(url: String) throws -> S3Configuration {
    var environment = ProcessInfo.processInfo.environment
    if let name = credentials?.rest(after: "profile:") { environment["AWS_PROFILE"] = name }
    var configuration = try S3Configuration(url: url, environment: environment)
    if let endpoint { configuration.endpoint = endpoint }
    if let region { configuration.region = region }
    if let certificateAuthority { configuration.certificateAuthority = certificateAuthority }
    if let addressing { configuration.addressing = addressing }
    configuration.storageClass = storageClass
    if let concurrency { configuration.concurrency = concurrency }
    configuration.features = features
    configuration.encryption = try serverEncryption()
    if let source = try credentialsSource(environment) { configuration.credentials = source }
    return configuration
  }

  private func credentialsSource(_ environment: [String: String]) throws -> (any S3CredentialsSource)? {
    guard let credentials else { return nil }
    if credentials == "environment" { return EnvironmentS3Credentials(environment) }
    if let name = credentials.rest(after: "profile:") {
      return ProfileS3Credentials(profile: name, environment: environment)
    }
    if let path = credentials.rest(after: "file:") {
      SecretFile.warnIfOpen(path, "the credentials file")
      let files = ["AWS_SHARED_CREDENTIALS_FILE": path, "AWS_CONFIG_FILE": path]
      return ProfileS3Credentials(profile: "default", environment: files)
    }
    throw DRError(
      .invalidConfiguration, "the credentials of s3 are given in no way that is known",
      advice: "write environment, profile:NAME or file:PATH; never the secret itself")
  }

  private func serverEncryption() throws -> S3Configuration.ServerEncryption {
    guard let encryption else { return .bucketDefault }
    if encryption == "AES256" { return .managed }
    if encryption == "aws:kms" { return .kms(key: nil, bucketKey: true) }
    if let key = encryption.rest(after: "aws:kms:"), !key.isEmpty { return .kms(key: key, bucketKey: true) }
    if encryption.hasPrefix("SSE-C:") { return .customer(try CustomerKeySource.key(encryption.dropFirst(6))) }
    throw DRError(
      .invalidConfiguration, "the encryption of s3 is none that is known",
      advice: "write AES256, aws:kms, aws:kms:KEY, SSE-C:file:PATH or SSE-C:environment:NAME")
  }
}

extension String {
  fileprivate func rest(after prefix: String) -> String? { hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil }
}
