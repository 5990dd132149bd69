import DRStorage
import DRTestSupport
import Foundation
import Testing

/// The drill with a second tier: the first one is lost with the servers, and everything comes back from a bucket.
@Suite(.serialized) struct DrillTierTests {
  private static var program: String {
    let built = Bundle.main.bundleURL.appending(path: "dr-drill").path
    return FileManager.default.isExecutableFile(atPath: built) ? built : "\(Readme.root)/.build/release/dr-drill"
  }

  @Test(
    "Servers and the repository's folder are lost, and the bucket brings PostgreSQL and Redis back",
    arguments: [S3TestServer.Kind.swift, .ceph])
  func drill(kind: S3TestServer.Kind) async throws {
    let server = try await S3TestServer.shared(kind)
    try await server.withBucket { bucket in
      let result = try await runCommand(
        Self.program,
        [
          "--system", "postgres", "redis", "--size", "8MB", "--seconds", "1", "--connections", "2", "--tier",
          "s3://\(bucket)/far",
        ],
        environment: [
          "AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": server.credentials.accessKeyID,
          "AWS_SECRET_ACCESS_KEY": server.credentials.secretAccessKey,
        ], timeLimit: .seconds(400))
      let said = String(decoding: result.output, as: UTF8.self)
      #expect(result.status == 0, "\(said)\n\(result.error)")
      #expect(said.contains("the repository's folder is gone too"))
      // What it wrote there is gone with it.
      let tier = try await S3Tier(server.configuration(bucket: bucket))
      #expect(try await tier.listAll(prefix: "").isEmpty)
    }
  }
}
