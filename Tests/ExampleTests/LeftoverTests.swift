import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What killed puts and killed trials of a server leave, as the programs list and remove it.
struct LeftoverTests {
  private static func tier(
    _ arguments: [String], _ server: S3TestServer? = nil
  ) async throws -> (status: Int32, output: String, error: String) {
    var environment: [String: String] = [:]
    if let server {
      environment = [
        "AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": server.credentials.accessKeyID,
        "AWS_SECRET_ACCESS_KEY": server.credentials.secretAccessKey,
      ]
    }
    let result = try await runCommand(ReceiverProcess.built("dr-tier"), arguments, environment: environment)
    return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
  }

  @Test("Temporary files of a folder are listed by name; those that are old enough go")
  func folder() async throws {
    try await withTemporaryFolder { folder in
      let place = "\(folder)/tier"
      #expect(try await Self.tier(["init", "--tier", place]).status == 0)
      for (name, age) in [(".dr-tmp-old", 7300.0), (".dr-tmp-young", 60)] {
        let path = "\(place)/\(name)"
        #expect(FileManager.default.createFile(atPath: path, contents: Data(count: 100)))
        try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: path)
      }
      let arguments = ["clean", "--tier", place, "--older-than-hours", "2"]
      let planned = try await Self.tier(arguments + ["--dry-run"])
      #expect(planned.output.contains("would remove temporary file .dr-tmp-old (100 bytes"), "\(planned)")
      let cleaned = try await Self.tier(arguments)
      #expect(cleaned.status == 0 && cleaned.output.contains("removed 1 unfinished uploads"), "\(cleaned)")
      #expect(cleaned.output.contains("removed temporary file .dr-tmp-old (100 bytes"), "\(cleaned)")
      #expect(cleaned.output.contains("left temporary file .dr-tmp-young"), "\(cleaned)")
      let left = try FileManager.default.contentsOfDirectory(atPath: place).filter { $0.hasPrefix(".dr-tmp") }
      #expect(left == [".dr-tmp-young"])
    }
  }

  @Test(
    "In a bucket: an upload and a probe are listed with their sizes, and removed once they are old enough",
    arguments: S3TestServer.Kind.allCases, [false, true])
  func bucket(kind: S3TestServer.Kind, versions: Bool) async throws {
    let server = try await S3TestServer.shared(kind)
    try await server.withTier(prefix: "app", versions: versions) { tier in
      let bucket = tier.client.configuration.bucket
      let answer = try await tier.client.send(S3Request(.POST, "app/half", query: [("uploads", "")]))
      let id = try #require(try answer.document("InitiateMultipartUploadResult").text("UploadId"))
      var part = S3Request(.PUT, "app/half", query: [("partNumber", "1"), ("uploadId", id)])
      part.body = S3Body([TestData.rows(6_000_000)])
      _ = try await tier.client.send(part)
      for _ in 0..<2 {
        var probe = S3Request(.PUT, "app/.dr-tmp-probe-0123-a")
        probe.body = S3Body([ByteBuffer(string: "1")])
        _ = try await tier.client.send(probe)
      }
      for foreign in ["app/whole", "elsewhere"] { _ = try await tier.client.send(S3Request(.PUT, foreign)) }
      let left = try await Self.tier(["clean", "--tier", "s3://\(bucket)/app"], server)
      #expect(left.status == 0 && left.output.contains("removed 0 unfinished uploads"), "\(left)")
      #expect(left.output.contains("left upload half (6000000 bytes"), "\(left)")
      #expect(left.output.contains("left probe .dr-tmp-probe-0123-a (1 bytes"), "\(left)")

      let found = try await tier.unfinishedUploads()
      #expect(found.map(\.kind) == (versions ? [.upload, .probe, .probe] : [.upload, .probe]), "\(found)")
      #expect(try await tier.removeAbandonedUploads(olderThan: Date(timeIntervalSinceNow: -3600)) == 0)
      #expect(try await tier.removeAbandonedUploads(olderThan: Date(timeIntervalSinceNow: 3600)) == found.count)
      #expect(try await tier.unfinishedUploads().isEmpty)
      let all = try await tier.client.send(S3Request(.GET, query: versions ? [("versions", "")] : [("list-type", "2")]))
      let rest = try all.document(versions ? "ListVersionsResult" : "ListBucketResult").children
        .compactMap { $0.text("Key") }
      #expect(Set(rest) == ["app/whole", "elsewhere"], "\(rest)")
    }
  }

  @Test("dr-tier lifecycle sets the rule for unfinished uploads and keeps the others; where there is none, it says so")
  func lifecycle() async throws {
    for kind in [S3TestServer.Kind.ceph, .moto] {
      let server = try await S3TestServer.shared(kind)
      try await server.withBucket { bucket in
        let place = ["--tier", "s3://\(bucket)/app"]
        let none = try await Self.tier(["lifecycle"] + place, server)
        #expect(none.status == 0 && none.output == "no lifecycle rules\n", "\(none)")
        let other = XMLElement(
          "Rule",
          children: [
            XMLElement("ID", text: "other"), XMLElement("Filter", children: [XMLElement("Prefix", text: "else/")]),
            XMLElement("Status", text: "Enabled"), XMLElement("Expiration", children: [XMLElement("Days", text: "9")]),
          ])
        var request = S3Request(.PUT, query: [("lifecycle", "")])
        request.body = S3Body(XMLElement("LifecycleConfiguration", children: [other]))
        _ = try await S3Client(server.configuration(bucket: bucket)).send(request)
        for days in ["7", "3"] {
          let set = try await Self.tier(["lifecycle", "--abandoned-uploads-days", days] + place, server)
          #expect(set.status == 0, "\(set)")
        }
        let shown = try await Self.tier(["lifecycle"] + place, server)
        let lines = shown.output.split(separator: "\n").sorted()
        #expect(lines.count == 2, "\(shown)")
        #expect(lines.first?.hasSuffix("\tenabled\tbelow 'app/'\tunfinished uploads after 3 days") == true, "\(lines)")
        #expect(lines.last == "other\tenabled\tbelow 'else/'\tExpiration", "\(lines)")
      }
    }
    let swift = try await S3TestServer.shared(.swift)
    try await swift.withBucket { bucket in
      for more in [[], ["--abandoned-uploads-days", "3"]] {
        let refused = try await Self.tier(["lifecycle", "--tier", "s3://\(bucket)/app"] + more, swift)
        #expect(refused.status == 2 && refused.error.contains("this server has no lifecycle rules"), "\(refused)")
        #expect(refused.error.contains("dr-tier clean"), "\(refused)")
      }
    }
    try await withTemporaryFolder { folder in
      #expect(try await Self.tier(["init", "--tier", "\(folder)/tier"]).status == 0)
      let local = try await Self.tier(["lifecycle", "--tier", "\(folder)/tier"])
      #expect(local.status == 2 && local.error.contains("is no bucket"), "\(local)")
    }
  }
}
