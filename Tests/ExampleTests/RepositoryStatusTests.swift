import DRCore
import DRStorage
import DRTestSupport
import Foundation
import Testing

/// What `dr-repository status` says of copies, and with which exit code.
struct RepositoryStatusTests {
  @Test(
    "A copy that is whole, behind, has a hole, has no log, holds nothing or is not there: each is said, and is an exit code"
  )
  func copies() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await server.withBucket { bucket in
      try await withTemporaryFolder { folder in
        let (near, far) = ("\(folder)/near", "s3://\(bucket)/far")
        let repository = try await SmallRepository(at: near)
        try await repository.log(1...4)
        let backup = try await repository.backUp()
        func status(_ more: String..., of copy: String? = nil) async throws -> ProgramAnswer {
          try await server.run("dr-repository", ["status", "--tier", near, "--tier", copy ?? far] + more)
        }
        func replicate() async throws {
          let copied = try await server.run("dr-repository", ["replicate", "--from", near, "--to", far])
          try #require(copied.status == 0, "\(copied)")
        }

        let nothing = try await status()
        #expect(
          nothing.status == 1 && nothing.output.contains("absent copy: it holds no backup of what is looked at"),
          "\(nothing)")
        try await replicate()
        let whole = try await status()
        #expect(whole.status == 0, "\(whole)")
        #expect(
          whole.output.contains("\(far): 4 segments") && whole.output.contains("to \(SmallRepository.segment(4))"))
        #expect(whole.output.contains("\(far): whole, verified") && !whole.output.contains("finding"), "\(whole)")

        // Behind: within the limit, and beyond it.
        try await repository.log(5...6)
        let behind = try await status()
        #expect(behind.status == 0 && behind.output.contains("; 2 missing, behind by "), "\(behind)")
        let late = try await status("--max-lag-hours", "0")
        #expect(
          late.status == 1 && late.output.contains("the log is behind: 2 segments are missing on \(far)"), "\(late)")
        #expect(late.output.contains("it ends at \(SmallRepository.segment(4))"), "\(late)")

        let json = try await status("--json", "--max-lag-hours", "0")
        #expect(json.status == 1)
        let document = try JSONDecoder().decode([String: JSONValue].self, from: Data(json.output.utf8))
        guard case .array(let logs)? = document["logs"], case .object(let log)? = logs.first,
          case .array(let places)? = log["places"], case .object(let place)? = places.last
        else {
          Issue.record("\(json.output)")
          return
        }
        #expect(place["missing"] == .integer(2) && place["segments"] == .integer(4), "\(place)")
        #expect(place["newest"] == .string(SmallRepository.segment(4)) && place["tier"] == .string(far), "\(place)")

        // A hole is one at once, and mended by the next replication.
        try await replicate()
        let copy = try await S3Tier(server.configuration(bucket: bucket, prefix: "far"))
        let segments = try await copy.listAll(prefix: "postgres/wal/")
        try await copy.delete(segments[2].key)
        let hole = try await status()
        #expect(hole.status == 1 && hole.output.contains("the log has a hole: 1 segments are missing"), "\(hole)")
        _ = try await copy.deleteAll(segments.map(\.key))
        let noLog = try await status()
        #expect(noLog.status == 1 && noLog.output.contains("the log is absent: 6 segments are missing"), "\(noLog)")
        try await replicate()
        #expect(try await status().status == 0)

        // A copy that goes further than the repository: that one has lost something.
        for segment in try await repository.tier.listAll(prefix: "postgres/wal/").suffix(2) {
          try await repository.tier.delete(segment.key)
        }
        let lost = try await status()
        #expect(lost.status == 1 && lost.output.contains("the repository's log ends before that on \(far)"), "\(lost)")

        try await copy.delete(backup.artifacts[0].key)
        let torn = try await status()
        #expect(torn.status == 1 && torn.output.contains("torn on \(far): 1 artifacts are missing"), "\(torn)")
        let noBucket = try await status(of: "s3://\(bucket)-not-there/far")
        #expect(noBucket.status == 2 && noBucket.output.contains("there is no such bucket"), "\(noBucket)")
      }
    }
  }

  @Test(
    "What the repository itself lacks is said: its log, a part of it, what a backup goes on from, the newest backup")
  func repositoryItself() async throws {
    try await withTemporaryFolder { folder in
      let (near, copy) = ("\(folder)/near", "\(folder)/copy")
      let repository = try await SmallRepository(at: near)
      try await repository.log(1...4)
      let first = try await repository.backUp()
      _ = try await LocalTier(root: copy, creating: true)
      func run(_ arguments: String...) async throws -> ProgramAnswer {
        let result = try await runCommand(ReceiverProcess.built("dr-repository"), arguments)
        return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
      }
      let whole = try await run("status", "--tier", near)
      #expect(whole.status == 0 && !whole.output.contains("finding"), "\(whole)")

      let segments = try await repository.tier.listAll(prefix: "postgres/wal/")
      let second = try await repository.tier.read(segments[1].key)
      try await repository.tier.delete(segments[1].key)
      let hole = try await run("status", "--tier", near)
      #expect(
        hole.status == 1
          && hole.output.contains(
            "postgres/app \(first.id): wal: the WAL segment …0000000000000002 is missing: it can be restored no further"
          ),
        "\(hole)")
      _ = try await repository.tier.put(segments[1].key, ByteStream(second), PutOptions())
      try await repository.tier.delete(segments[0].key)
      let useless = try await run("status", "--tier", near)
      #expect(
        useless.status == 1 && useless.output.contains("…0000000000000001 is missing: it cannot be restored"),
        "\(useless)")
      _ = try await repository.tier.deleteAll(segments.map(\.key))
      let gone = try await run("status", "--tier", near)
      #expect(
        gone.status == 1
          && gone.output.contains("there is no WAL segment from …0000000000000001 on: it cannot be restored"),
        "\(gone)")
      try await repository.log(1...4)

      let third = try await repository.backUp(goingOnFrom: first.id)
      try #require(try await run("replicate", "--from", near, "--to", copy).status == 0)
      try #require(try await run("status", "--tier", near, "--tier", copy).status == 0)
      let manifest = try ObjectKey("postgres/metadata/\(first.id).json")
      let json = try await repository.tier.read(manifest)
      try await repository.tier.delete(manifest)
      let chain = try await run("status", "--tier", near)
      #expect(
        chain.status == 1
          && chain.output.contains("\(third.id): \(first.id), which it goes on from, is not whole on local:\(near)"),
        "\(chain)")
      _ = try await repository.tier.put(manifest, ByteStream(json), PutOptions())
      try await repository.tier.delete(ObjectKey("postgres/metadata/\(third.id).json"))
      let lost = try await run("status", "--tier", near, "--tier", copy)
      #expect(
        lost.status == 1
          && lost.output.contains("\(third.id): the newest backup is on local:\(copy), and not on local:\(near)"),
        "\(lost)")
      #expect(lost.output.contains("dr-repository replicate --from \(copy) --to \(near)"), "\(lost)")
      try #require(try await run("replicate", "--from", copy, "--to", near).status == 0)
      try #require(try await run("status", "--tier", near, "--tier", copy).status == 0)
    }
  }

  @Test("Commands that only look write nothing to a bucket, not even to try out its server")
  func readOnly() async throws {
    let server = try await S3TestServer.shared(.ceph)
    try await server.withBucket { bucket in
      let repository = try await SmallRepository(on: S3Tier(server.configuration(bucket: bucket, prefix: "app")))
      try await repository.log(1...3)
      try await repository.backUp()
      try await S3FaultProxy.with(server) { proxy in
        try await withTemporaryFolder { folder in
          let config = "\(folder)/dr.json"
          try "{\"repository\": \"s3://\(bucket)/app\", \"component\": \"postgres/app\", \"plaintext\": true}".write(
            toFile: config, atomically: true, encoding: .utf8)
          let place = "s3://\(bucket)/app"
          for (program, arguments) in [
            ("dr-tier", ["list", "--tier", place]), ("dr-tier", ["init", "--tier", place]),
            ("dr-tier", ["get", "/", "--tier", place, "--to", "\(folder)/got"]),
            ("dr-tier", ["lifecycle", "--tier", place]), ("dr-tier", ["clean", "--dry-run", "--tier", place]),
            ("dr-repository", ["status", "--tier", place]),
            ("dr-repository", ["prune", "--tier", place, "--keep-last", "1"]),
            ("dr-postgres", ["list", "--config", config]), ("dr-postgres", ["verify", "--config", config]),
          ] {
            let done = try await server.run(program, arguments, endpoint: proxy.endpoint)
            #expect(done.status == 0, "\(program) \(arguments[0]): \(done)")
          }
          let methods = Set(proxy.requests.map(\.method))
          #expect(!methods.isEmpty && methods.isSubset(of: ["HEAD", "GET"]), "\(methods)")
          // As a check of the check: what has to write tries the server out.
          proxy.forget()
          _ = try await server.run("dr-tier", ["features", "--tier", place], endpoint: proxy.endpoint)
          #expect(proxy.requests.contains { $0.method == "PUT" })
        }
      }
    }
  }
}
