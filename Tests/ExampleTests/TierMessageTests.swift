import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What the programs say when a tier was not called as it was meant.
struct TierMessageTests {
  @Test("A prefix under which there is nothing is said, and is no success for who reads")
  func nothing() async throws {
    let server = try await S3TestServer.shared(.moto)
    try await server.withBucket { bucket in
      let tier = ["--tier", "s3://\(bucket)/app"]
      let empty = try await server.run("dr-tier", ["list"] + tier)
      #expect(empty.status == 0 && empty.error == "s3://\(bucket)/app holds no object\n", "\(empty)")
      let list = try await server.run("dr-tier", ["list", "postgress/"] + tier)
      #expect(list.status == 0 && list.output.isEmpty, "\(list)")
      #expect(list.error == "there is nothing under 'postgress/' on s3://\(bucket)/app\n", "\(list)")
      try await withTemporaryFolder { folder in
        for arguments in [["get", "postgress/", "--to", "\(folder)/x"], ["thaw", "postgress/"]] {
          let said = try await server.run("dr-tier", arguments + tier)
          #expect(said.status == 2 && said.error.contains("there is nothing under 'postgress/'"), "\(said)")
        }
        let repository = try await SmallRepository(at: "\(folder)/app")
        try await repository.backUp()
        let other = try await server.run(
          "dr-repository", ["status", "--tier", "\(folder)/app", "--component", "redis/app"])
        #expect(other.status == 1 && other.output.contains("it holds no backup"), "\(other)")
      }
    }
  }

  @Test("A class and a key that the server does not have are named, with what it answered and where to set them")
  func classAndKey() async throws {
    try await withTemporaryFolder { folder in
      try "x".write(toFile: "\(folder)/file", atomically: true, encoding: .utf8)
      for (kind, answer) in [(S3TestServer.Kind.ceph, "400 InvalidArgument"), (.moto, "400 InvalidStorageClass")] {
        let server = try await S3TestServer.shared(kind)
        try await server.withBucket { bucket in
          let said = try await server.run(
            "dr-tier", ["put", "\(folder)/file", "--storage-class", "COLDEST", "--tier", "s3://\(bucket)/app"])
          #expect(said.status == 2 && said.error.contains("does not take the storage class 'COLDEST'"), "\(said)")
          #expect(said.error.contains(answer) && said.error.contains("--storage-class"), "\(said)")
        }
      }
      let ceph = try await S3TestServer.shared(.ceph)
      try await ceph.withBucket { bucket in
        let config = "\(folder)/tier.json"
        try "{\"repository\": \"s3://\(bucket)/app\", \"s3\": {\"encryption\": \"aws:kms:no-such-key\"}}".write(
          toFile: config, atomically: true, encoding: .utf8)
        let said = try await ceph.run("dr-tier", ["put", "\(folder)/file", "--tier", config])
        #expect(said.status == 2 && said.error.contains("cannot encrypt with the KMS key 'no-such-key'"), "\(said)")
        #expect(
          said.error.contains("Failed to retrieve the actual key") && said.error.contains("s3.encryption"), "\(said)")
      }
    }
  }

  @Test(
    "A bucket that is not there ends every program with 2, and a certificate that nobody vouches for is said in words")
  func bucketAndCertificate() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await withTemporaryFolder { folder in
      let place = "s3://not-there/app"
      let config = "\(folder)/dr.json"
      for (program, kind) in [
        ("dr-postgres", "postgres"), ("dr-redis", "redis"), ("dr-rabbitmq", "rabbitmq"), ("dr-files", "config"),
      ] {
        try "{\"repository\": \"\(place)\", \"component\": \"\(kind)/app\", \"plaintext\": true}".write(
          toFile: config, atomically: true, encoding: .utf8)
        for command in ["list", "init", "clean"] {
          let said = try await server.run(program, [command, "--config", config])
          #expect(said.status == 2 && said.error.contains("there is no such bucket"), "\(program) \(command): \(said)")
        }
      }
      for (program, arguments) in [
        ("dr-tier", ["list", "--tier", place]), ("dr-tier", ["clean", "--tier", place]),
        ("dr-tier-check", ["--tier", place]), ("dr-repository", ["clean", "--tier", place]),
        ("dr-repository", ["status", "--tier", place]),
        ("dr-repository", ["prune", "--tier", place, "--keep-last", "1"]),
        ("dr-repository", ["replicate", "--from", place, "--to", place + "-copy"]),
      ] {
        let said = try await server.run(program, arguments)
        #expect(said.status == 2, "\(program) \(arguments): \(said)")
        #expect((said.output + said.error).contains("there is no such bucket"), "\(program) \(arguments): \(said)")
      }
      let secure = try await server.run("dr-tier", ["list", "--tier", place], endpoint: server.secureEndpoint)
      #expect(secure.status == 2 && secure.error.contains("TLS: certificate verify failed"), "\(secure)")
      #expect(!secure.error.contains(".cc:") && !secure.error.contains("/Sources/"), "\(secure)")
    }
  }

  @Test("Of a folder that is a repository, the manifests are put last")
  func manifestsLast() async throws {
    let server = try await S3TestServer.shared(.moto)
    try await server.withBucket { bucket in
      try await withTemporaryFolder { folder in
        let repository = try await SmallRepository(at: "\(folder)/app")
        try await repository.log(1...9)
        for _ in 0..<3 { try await repository.backUp() }
        try await S3FaultProxy.with(server) { proxy in
          let put = try await server.run(
            "dr-tier", ["put", "\(folder)/app", "--tier", "s3://\(bucket)/app"], endpoint: proxy.endpoint)
          #expect(put.status == 0, "\(put)")
          let paths = proxy.requests.filter { $0.method == "PUT" && !$0.uri.contains(".dr-tmp") }.map(\.uri)
          #expect(paths.count >= 15)
          #expect(paths.suffix(3).allSatisfy { $0.contains("/metadata/") && $0.hasSuffix(".json") }, "\(paths)")
          #expect(!paths.dropLast(3).contains { $0.contains("/metadata/") }, "\(paths)")
        }
      }
    }
  }
}
