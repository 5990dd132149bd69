import DRCore
public import Foundation

/// The endpoint that ECS and EKS give a container: `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or `…_FULL_URI`, with
/// `AWS_CONTAINER_AUTHORIZATION_TOKEN` or `…_TOKEN_FILE`.
public struct ContainerS3Credentials: S3CredentialsSource {
  private let variables: [String: String]

  public init(environment: [String: String] = ProcessInfo.processInfo.environment) { variables = environment }

  /// - Throws: ``DRCore/DRError``: `invalidConfiguration` for an endpoint that must not be trusted; `tierUnavailable`,
  ///   `malformedData`.
  public func credentials() async throws -> S3Credentials? {
    guard let url = try endpoint() else { return nil }
    var request = MetadataRequest(url: url, purpose: "the container's credentials endpoint")
    if let token = try token() { request.headers.append(("Authorization", token)) }
    return try MetadataAnswer.credentials(await request.send(), from: request.purpose)
  }

  private func endpoint() throws -> String? {
    if let path = variables["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"], !path.isEmpty {
      guard path.hasPrefix("/") else {
        throw DRError(.invalidConfiguration, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not start with a slash")
      }
      return "http://169.254.170.2\(path)"
    }
    guard let full = variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"], !full.isEmpty else { return nil }
    // Without TLS the token would go to whoever answers: only the hosts that are this machine are let through.
    let near = ["localhost", "127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"]
    guard let url = URL(string: full), let host = url.host?.trimmingBrackets,
      url.scheme == "https" || (url.scheme == "http" && near.contains(host))
    else {
      throw DRError(
        .invalidConfiguration, "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor an address of this machine")
    }
    return full
  }

  private func token() throws -> String? {
    if let file = variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"], !file.isEmpty {
      do {
        return try String(contentsOfFile: file, encoding: .utf8).filter { !$0.isNewline }
      } catch {
        throw DRError(
          .invalidConfiguration, "the container's token file cannot be read", advice: "see who owns it, and its mode",
          object: file, cause: error)
      }
    }
    return variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
  }
}

extension String {
  fileprivate var trimmingBrackets: String { filter { $0 != "[" && $0 != "]" } }
}
