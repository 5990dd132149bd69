import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Encryption by a key of one's own (SSE-C), and credentials in a file, as a configuration names them.
struct S3SecretsTests {
  private typealias Said = (status: Int32, output: String, error: String)

  private static func run(_ program: String, _ arguments: [String], _ environment: [String: String] = [:]) async throws
    -> Said
  {
    let nobody = ["AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nonexistent"]
    let result = try await runCommand(
      ReceiverProcess.built(program), arguments, environment: nobody.merging(environment) { $1 })
    return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
  }

  private static func write(_ text: String, to path: String, mode: Int = 0o600) throws {
    try text.write(toFile: path, atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
  }

  private static func credentials(of server: S3TestServer) -> String {
    """
    [default]
    aws_access_key_id = \(server.credentials.accessKeyID)
    aws_secret_access_key = \(server.credentials.secretAccessKey)
    """
  }

  @Test(
    "With SSE-C by a file or the environment, over TLS, a backup goes to a bucket and back, and nobody else reads it")
  func customerKey() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await server.withBucket { bucket in
      try await withTemporaryFolder { folder in
        let (config, keyFile, credentials) = ("\(folder)/dr.json", "\(folder)/sse-c.key", "\(folder)/credentials")
        let key = Data((0..<32).map { UInt8($0 &* 7 &+ 3) }).base64EncodedString()
        try Self.write(key + "\n", to: keyFile, mode: 0o644)
        try Self.write(Self.credentials(of: server), to: credentials, mode: 0o644)
        let place = """
          "endpoint": "\(server.secureEndpoint ?? "")", "certificateAuthority": "\(server.certificateAuthority ?? "")",
          "credentials": "file:\(credentials)"
          """
        func configure(_ encryption: String, at s3: String = place) throws {
          try Self.write(
            """
            {"repository": "s3://\(bucket)/app", "component": "config/app", "plaintext": true,
            "s3": {\(s3), "encryption": "\(encryption)"}}
            """, to: config)
        }
        mkdir("\(folder)/tree", 0o755)
        try Self.write("content of the file\n", to: "\(folder)/tree/file")
        try configure("SSE-C:file:\(keyFile)")
        let open = try await Self.run("dr-files", ["capture", "--config", config, "\(folder)/tree"])
        #expect(open.status == 0, "\(open)")
        // Secrets that others can read are said, once each.
        #expect(open.error.contains("others can read the file of the key of SSE-C \(keyFile)"), "\(open.error)")
        #expect(open.error.contains("others can read the credentials file \(credentials)"), "\(open.error)")
        for file in [keyFile, credentials] {
          try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
        }
        let verified = try await Self.run("dr-files", ["verify", "--config", config])
        #expect(verified.status == 0 && verified.output.contains(": passed"), "\(verified)")
        #expect(!verified.error.contains("others can read"), "\(verified.error)")

        // Every object, and each of them only with the key.
        let plain = try S3Client(server.configuration(bucket: bucket))
        let listed = try await plain.send(S3Request(.GET, query: [("list-type", "2")]))
        let keys = try listed.document("ListBucketResult").all("Contents").compactMap { $0.text("Key") }
        #expect(keys.count >= 2)
        for key in keys { await #expect(throws: S3Failure.self) { _ = try await plain.send(S3Request(.GET, key)) } }

        try Self.write(
          "{\"repository\": \"s3://\(bucket)/app\", \"s3\": {\(place)}}", to: "\(folder)/keyless.json")
        let keyless = try await Self.run(
          "dr-tier", ["get", "config/", "--tier", "\(folder)/keyless.json", "--to", "\(folder)/keyless"])
        #expect(
          keyless.status == 2 && keyless.error.contains("what was put with SSE-C is read with its key alone"),
          "\(keyless)")

        // The same key by the environment; and for the programs that know no configuration, the file is the tier.
        try configure("SSE-C:environment:DR_SSE_C")
        let restored = try await Self.run(
          "dr-files", ["restore", "--config", config, "--to", "\(folder)/back"], ["DR_SSE_C": key])
        #expect(restored.status == 0, "\(restored)")
        #expect(try String(contentsOfFile: "\(folder)/back/file", encoding: .utf8) == "content of the file\n")
        let copied = try await Self.run("dr-tier", ["init", "--tier", "\(folder)/copy"])
        #expect(copied.status == 0)
        let replicated = try await Self.run(
          "dr-repository", ["replicate", "--from", config, "--to", "\(folder)/copy"], ["DR_SSE_C": key])
        #expect(replicated.status == 0 && replicated.output.contains("copied 1 backups"), "\(replicated)")
        let status = try await Self.run(
          "dr-repository", ["status", "--tier", config, "--tier", "\(folder)/copy"], ["DR_SSE_C": key])
        #expect(status.status == 0 && status.output.contains("s3://\(bucket)/app: whole"), "\(status)")

        let missing = try await Self.run("dr-files", ["list", "--config", config])
        #expect(missing.status == 2 && missing.error.contains("no variable with the key of SSE-C"), "\(missing)")
        try Self.write(String(key.dropLast(4)), to: keyFile)
        try configure("SSE-C:file:\(keyFile)")
        let short = try await Self.run("dr-files", ["list", "--config", config])
        #expect(short.status == 2 && short.error.contains("holds no key of 32 bytes"), "\(short)")
        try configure("SSE-C:\(key)")
        let inline = try await Self.run("dr-files", ["list", "--config", config])
        #expect(inline.status == 2 && inline.error.contains("never the key itself"), "\(inline)")
        for said in [missing, short, inline] { #expect(!(said.error + said.output).contains(key.prefix(20))) }

        try Self.write(key, to: keyFile)
        try configure("SSE-C:file:\(keyFile)", at: "\"endpoint\": \"http://s3.test\", \"credentials\": \"environment\"")
        let clear = try await Self.run("dr-files", ["list", "--config", config])
        #expect(clear.status == 2 && clear.error.contains("this endpoint is not encrypted"), "\(clear)")
      }
    }
  }

  @Test(
    "A server that takes an encryption and ignores it is found out before anything is stored",
    arguments: [
      (S3TestServer.Kind.moto, "SSE-C:environment:DR_SSE_C"), (.swift, "SSE-C:environment:DR_SSE_C"), (.ceph, "AES256"),
    ])
  func ignored(kind: S3TestServer.Kind, encryption: String) async throws {
    let server = try await S3TestServer.shared(kind)
    try await server.withBucket { bucket in
      try await withTemporaryFolder { folder in
        let config = "\(folder)/tier.json"
        try Self.write(
          """
          {"repository": "s3://\(bucket)/app", "s3": {"endpoint": "\(server.endpoint)", "encryption": "\(encryption)",
          "credentials": "file:\(folder)/credentials"}}
          """, to: config)
        try Self.write(Self.credentials(of: server), to: "\(folder)/credentials")
        let key = Data(repeating: 7, count: 32).base64EncodedString()
        let put = try await Self.run("dr-tier", ["put", config, "--tier", config], ["DR_SSE_C": key])
        #expect(put.status == 2 && put.error.contains("[unsupported]"), "\(put)")
        #expect(put.error.contains("takes the encryption that was asked for, and ignores it"), "\(put)")
        let plain = try S3Client(server.configuration(bucket: bucket))
        let left = try await plain.send(S3Request(.GET, query: [("list-type", "2")])).document("ListBucketResult")
        #expect(left.all("Contents").isEmpty)
      }
    }
  }
}
