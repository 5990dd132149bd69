import DRCore
import NIOCore

public import class Foundation.ProcessInfo

/// The metadata service of an EC2 instance, version 2: a token first, with it the name of the role and its credentials.
public struct InstanceS3Credentials: S3CredentialsSource {
  private let endpoint: String
  private let isDisabled: Bool
  private let isNamed: Bool

  public init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    let named = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"].flatMap { $0.isEmpty ? nil : $0 }
    var endpoint = named ?? "http://169.254.169.254"
    while endpoint.hasSuffix("/") { endpoint.removeLast() }
    self.endpoint = endpoint
    isNamed = named != nil
    isDisabled = environment["AWS_EC2_METADATA_DISABLED"]?.lowercased() == "true"
  }

  /// Nil where there is no such service.
  ///
  /// - Throws: ``DRCore/DRError``: `tierUnavailable`, `malformedData`.
  public func credentials() async throws -> S3Credentials? {
    if isDisabled { return nil }
    let purpose = "the instance's metadata service"
    let session: (status: Int, body: ByteBuffer)
    do {
      session = try await MetadataRequest(
        method: .PUT, url: "\(endpoint)/latest/api/token",
        headers: [("X-aws-ec2-metadata-token-ttl-seconds", "300")], purpose: purpose
      ).send()
    } catch let error as DRError {
      // Not an instance, unless somebody said that it is.
      if isNamed { throw error }
      return nil
    }
    guard session.status == 200 else {
      throw DRError(.tierUnavailable, "\(purpose) gave no session, but status \(session.status)")
    }
    let headers = [("X-aws-ec2-metadata-token", String(buffer: session.body))]
    let folder = "\(endpoint)/latest/meta-data/iam/security-credentials/"
    let roles = try await MetadataRequest(url: folder, headers: headers, purpose: purpose).send()
    if roles.status == 404 { return nil }
    guard roles.status == 200, let role = String(buffer: roles.body).split(whereSeparator: \.isNewline).first else {
      throw DRError(.tierUnavailable, "\(purpose) named no role, but status \(roles.status)")
    }
    let answer = try await MetadataRequest(
      url: folder + PercentEncoding.query(String(role)), headers: headers, purpose: purpose
    ).send()
    return try MetadataAnswer.credentials(answer, from: purpose)
  }
}
