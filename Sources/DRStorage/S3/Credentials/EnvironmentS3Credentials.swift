import DRCore

public import class Foundation.ProcessInfo

/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
public struct EnvironmentS3Credentials: S3CredentialsSource {
  private let variables: [String: String]

  public init(_ variables: [String: String] = ProcessInfo.processInfo.environment) { self.variables = variables }

  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration` if only one of the two keys is set.
  public func credentials() throws -> S3Credentials? {
    let (id, secret) = (variables["AWS_ACCESS_KEY_ID"] ?? "", variables["AWS_SECRET_ACCESS_KEY"] ?? "")
    if id.isEmpty, secret.isEmpty { return nil }
    guard !id.isEmpty, !secret.isEmpty else {
      throw DRError(
        .invalidConfiguration, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set", advice: "set both")
    }
    return S3Credentials(
      accessKeyID: id, secretAccessKey: secret,
      sessionToken: variables["AWS_SESSION_TOKEN"].flatMap { $0.isEmpty ? nil : $0 })
  }
}
