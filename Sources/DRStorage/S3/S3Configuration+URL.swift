import DRCore
public import Foundation

extension S3Configuration {
  /// A bucket by its URL, the rest as the AWS tools find it: `s3://bucket/prefix`, with the endpoint from
  /// `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, the region from `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile, the
  /// certificates to trust from `AWS_CA_BUNDLE`, and the credentials of ``S3CredentialsChain/standard(environment:)``.
  ///
  /// - Throws: ``DRCore/DRError`` with `invalidConfiguration`.
  public init(url: String, environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let (bucket, prefix) = try S3Configuration.split(url)
    func value(_ names: String...) -> String? { names.lazy.compactMap { environment[$0] }.first { !$0.isEmpty } }
    let region =
      try value("AWS_REGION", "AWS_DEFAULT_REGION") ?? ProfileS3Credentials(environment: environment).region()
    self.init(
      bucket: bucket, prefix: prefix, region: region ?? "us-east-1",
      endpoint: value("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
      credentials: S3CredentialsChain.standard(environment: environment))
    certificateAuthority = value("AWS_CA_BUNDLE")
  }

  private static func split(_ url: String) throws -> (bucket: String, prefix: String) {
    let scheme = "s3://"
    guard url.hasPrefix(scheme) else {
      throw DRError(
        .invalidConfiguration, "'\(url.prefix(80))' is not the URL of a bucket", advice: "write s3://bucket/prefix")
    }
    let parts = url.dropFirst(scheme.count).split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let bucket = parts.first, !bucket.isEmpty else {
      throw DRError(.invalidConfiguration, "'\(url.prefix(80))' names no bucket", advice: "write s3://bucket/prefix")
    }
    var prefix = parts.count > 1 ? String(parts[1]) : ""
    while prefix.hasSuffix("/") { prefix.removeLast() }
    return (String(bucket), prefix)
  }
}
