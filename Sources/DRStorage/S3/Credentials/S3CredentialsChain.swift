import DRCore

public import class Foundation.ProcessInfo

/// The first of several sources that has credentials.
public struct S3CredentialsChain: S3CredentialsSource {
  private let sources: [any S3CredentialsSource]

  public init(_ sources: [any S3CredentialsSource]) { self.sources = sources }

  /// As the AWS tools look: environment, shared files, container, instance.
  public static func standard(
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> S3CredentialsChain {
    S3CredentialsChain([
      EnvironmentS3Credentials(environment), ProfileS3Credentials(environment: environment),
      ContainerS3Credentials(environment: environment), InstanceS3Credentials(environment: environment),
    ])
  }

  public func credentials() async throws -> S3Credentials? {
    for source in sources {
      if let found = try await source.credentials() { return found }
    }
    return nil
  }
}
