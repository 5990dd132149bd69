import DRCore
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import NIOCore
import Testing

/// A repository in a bucket, as the programs are told of it.
struct S3ConfigurationTests {
  private static func program(_ name: String) -> String {
    let built = Bundle.main.bundleURL.appending(path: name).path
    return FileManager.default.isExecutableFile(atPath: built) ? built : "\(Readme.root)/.build/release/\(name)"
  }

  @Test("A configuration names a bucket, and its credentials by reference")
  func configuration() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await server.withBucket { bucket in
      try await withTemporaryFolder { folder in
        let secret = """
          [default]
          aws_access_key_id = \(server.credentials.accessKeyID)
          aws_secret_access_key = \(server.credentials.secretAccessKey)
          """
        try secret.write(toFile: "\(folder)/credentials", atomically: true, encoding: .utf8)
        let config = "\(folder)/dr.json"
        func write(_ s3: String) throws {
          let text = "{\"repository\": \"s3://\(bucket)/app\", \"component\": \"postgres/app\", \"s3\": {\(s3)}}"
          try text.write(toFile: config, atomically: true, encoding: .utf8)
        }
        let place = "\"endpoint\": \"\(server.endpoint)\", \"region\": \"us-east-1\""
        try write("\(place), \"credentials\": \"file:\(folder)/credentials\"")
        let tier = try await RepositoryConfiguration(file: config).tier(creating: true)
        #expect(tier.name == "s3://\(bucket)/app" && tier.capabilities.contains(.conditionalPut))
        _ = try await tier.put(ObjectKey("a"), ByteStream(ByteBuffer(string: "x")), PutOptions())

        for bad in [
          "\"secretAccessKey\": \"x\"", "\"credentials\": \"AKIDEXAMPLE:secret\"", "\"encryption\": \"rot13\"",
        ] {
          try write("\(place), \(bad)")
          let error = await #expect(throws: DRError.self, "\(bad)") {
            _ = try await RepositoryConfiguration(file: config).tier(creating: false)
          }
          #expect(error?.code == .invalidConfiguration && error?.description.contains("AKIDEXAMPLE:") == false)
        }

        // What a server's restore_command makes of it: 1 only if the file is truly not there.
        func fetch() async throws -> (status: Int32, output: [UInt8], error: String) {
          let arguments = [
            "fetch", "--config", config, "--system-identifier", "7301", "000000010000000000000001", "\(folder)/wal",
          ]
          let environment = ["AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": folder]
          return try await runCommand(Self.program("dr-wal"), arguments, environment: environment)
        }
        try write("\(place), \"credentials\": \"file:\(folder)/credentials\"")
        #expect(try await fetch().status == 1)
        try "[default]\naws_access_key_id = nobody\naws_secret_access_key = WRONGSECRET\n".write(
          toFile: "\(folder)/credentials", atomically: true, encoding: .utf8)
        let refused = try await fetch()
        #expect(refused.status == 126 && !refused.error.contains("WRONGSECRET"), "\(refused)")
        try secret.write(toFile: "\(folder)/credentials", atomically: true, encoding: .utf8)
        try write("\"endpoint\": \"http://127.0.0.1:1\", \"credentials\": \"file:\(folder)/credentials\"")
        #expect(try await fetch().status == 126)
      }
    }
  }

  @Test("dr-tier says what a bucket can do, thaws what is archived, and leaves nothing half read")
  func tierProgram() async throws {
    let server = try await S3TestServer.shared(.moto)
    try await server.withBucket { bucket in
      try await withTemporaryFolder { folder in
        let environment = [
          "AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": server.credentials.accessKeyID,
          "AWS_SECRET_ACCESS_KEY": server.credentials.secretAccessKey,
        ]
        func run(_ arguments: String...) async throws -> (status: Int32, output: String, error: String) {
          let all = arguments + ["--tier", "s3://\(bucket)/p"]
          let result = try await runCommand(Self.program("dr-tier"), all, environment: environment)
          return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
        }
        let features = try await run("features")
        #expect(try JSONDecoder().decode(S3Features.self, from: Data(features.output.utf8)).archive)
        let content = TestData.rows(9_000_000)
        try Data(content.readableBytesView).write(to: URL(fileURLWithPath: "\(folder)/file"))
        #expect(try await run("put", "\(folder)/file", "--storage-class", "GLACIER").status == 0)
        #expect(try await run("list").output == "9000000\tGLACIER\tfile\n")
        let archived = try await run("get", "file", "--to", "\(folder)/back")
        #expect(archived.status == 2 && archived.error.contains("thaw"), "\(archived)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["file"])
        let thawed = try await run("thaw", "/", "--days", "2", "--speed", "bulk")
        #expect(thawed.status == 0 && thawed.output == "1 requested\n", "\(thawed)")
        #expect(try await run("get", "file", "--to", "\(folder)/back").status == 0)
        #expect(try Data(contentsOf: URL(fileURLWithPath: "\(folder)/back")) == Data(content.readableBytesView))
      }
    }
  }
}
