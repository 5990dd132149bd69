import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Places, components and policies that were mistyped, and what must not be replaced.
struct RepositoryMistakeTests {
  private func run(_ program: String, _ arguments: [String]) async throws -> ProgramAnswer {
    let result = try await runCommand(ReceiverProcess.built(program), arguments)
    return (result.status, String(decoding: result.output, as: UTF8.self), result.error)
  }

  @Test("A place or a component in which there is nothing is no success of prune, replicate and clean")
  func nothingThere() async throws {
    try await withTemporaryFolder { folder in
      let (near, copy, empty) = ("\(folder)/near", "\(folder)/copy", "\(folder)/empty")
      try await SmallRepository(at: near).backUp()
      for place in [copy, empty] { _ = try await LocalTier(root: place, creating: true) }
      for arguments in [
        ["prune", "--tier", near, "--keep-last", "1"], ["prune", "--tier", near, "--keep-last", "1", "--execute"],
        ["replicate", "--from", near, "--to", copy],
      ] {
        let said = try await run("dr-repository", arguments + ["--component", "redis/app"])
        #expect(said.status == 2 && said.error.contains("there is no backup of redis/app on \(near)"), "\(said)")
        #expect(said.error.contains("it has backups of postgres/app"), "\(said)")
      }
      for arguments in [
        ["prune", "--tier", empty, "--keep-last", "1"], ["replicate", "--from", empty, "--to", copy],
        ["clean", "--tier", empty],
      ] {
        let said = try await run("dr-repository", arguments)
        #expect(said.status == 2 && said.error.contains("there is no backup on \(empty)"), "\(said)")
      }
      #expect(try await run("dr-repository", ["clean", "--tier", near]).status == 0)
    }
  }

  @Test("Two names of one place are no two tiers")
  func sameTwice() async throws {
    try await withTemporaryFolder { folder in
      let near = "\(folder)/near"
      try await SmallRepository(at: near).backUp()
      let link = "\(folder)/link"
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: near)
      let file = "\(folder)/tier.json"
      try "{\"repository\": \"\(near)\"}".write(toFile: file, atomically: true, encoding: .utf8)
      for other in [near, near + "/", link, file] {
        for arguments in [["status", "--tier", near, "--tier", other], ["replicate", "--from", near, "--to", other]] {
          let said = try await run("dr-repository", arguments)
          #expect(said.status == 64 && said.error.contains("say a copy of it"), "\(arguments): \(said)")
        }
      }
      let buckets = try await run(
        "dr-repository", ["status", "--tier", "s3://bucket/app/", "--tier", "s3://bucket/app"])
      #expect(buckets.status == 64 && buckets.error.contains("are one tier"), "\(buckets)")
    }
  }

  @Test("A policy in a file is carried out; one that is mistyped is refused, with the field")
  func policy() async throws {
    try await withTemporaryFolder { folder in
      let near = "\(folder)/near"
      let repository = try await SmallRepository(at: near)
      let first = try await repository.backUp()
      let second = try await repository.backUp()
      let file = "\(folder)/policy.json"
      func prune(_ json: String) async throws -> ProgramAnswer {
        try json.write(toFile: file, atomically: true, encoding: .utf8)
        return try await run("dr-repository", ["prune", "--tier", near, "--policy", file])
      }
      let plan = try await prune(#"{"rules": [{"newest": 1}], "components": {"redis/app": [{"days": 7}]}}"#)
      #expect(plan.status == 0 && plan.output.contains("mark postgres/app \(first.id): no rule keeps it"), "\(plan)")
      #expect(plan.output.contains("keep postgres/app \(second.id): one of the newest 1"), "\(plan)")
      let other = try await prune(#"{"rules": [{"newest": 9}], "components": {"postgres/app": [{"newest": 1}]}}"#)
      #expect(other.output.contains("mark postgres/app \(first.id)"), "\(other)")
      let mistyped = try await prune(#"{"rules": [{"newest": 1, "echa": "month"}]}"#)
      #expect(mistyped.status == 2 && mistyped.error.contains("the field 'echa' is not known"), "\(mistyped)")
      #expect(mistyped.error.contains(#"{"newest": 12, "each": "month"}"#), "\(mistyped)")
    }
  }

  @Test(
    "Other bytes under the name of what is there, a manifest, an artifact, a segment, are not put unless that is wanted"
  )
  func putReplaces() async throws {
    try await withTemporaryFolder { folder in
      let near = "\(folder)/near"
      let repository = try await SmallRepository(at: near)
      try await repository.log(1...1)
      let backup = try await repository.backUp()
      let segment = try #require(try await repository.tier.listAll(prefix: "postgres/wal/").first?.key.rawValue)
      let copy = "\(folder)/copy"
      _ = try await LocalTier(root: copy, creating: true)
      func put(_ file: String, _ more: String...) async throws -> ProgramAnswer {
        try await run("dr-tier", ["put", file, "--tier", copy] + more)
      }
      for _ in 0..<2 { #expect(try await put(near).status == 0) }
      let other = "\(folder)/other"
      try "{}".write(toFile: other, atomically: true, encoding: .utf8)
      for key in ["postgres/metadata/\(backup.id).json", backup.artifacts[0].key.rawValue, segment] {
        let before = try Data(contentsOf: URL(filePath: "\(copy)/\(key)"))
        let refused = try await put(other, "--key", key)
        #expect(refused.status == 2 && refused.error.contains("they were not replaced"), "\(refused)")
        #expect(try Data(contentsOf: URL(filePath: "\(copy)/\(key)")) == before)
        #expect(try await put(other, "--key", key, "--replace").status == 0)
        #expect(try Data(contentsOf: URL(filePath: "\(copy)/\(key)")) == Data("{}".utf8))
      }
    }
  }

  @Test("On a full disk a pruning makes room by what needs none, and then does the rest")
  func fullDisk() async throws {
    try await SmallFileSystem.with { disk in
      let place = "\(disk.path)/repository"
      let repository = try await SmallRepository(at: place)
      let store = try ChangeLogStore(
        tier: repository.tier, component: Component(parsing: SmallRepository.component), systemIdentifier: "7301")
      _ = try await store.put(
        SmallRepository.segment(0), ByteBuffer(bytes: (0..<300_000).map { _ in UInt8.random(in: 0...255) }))
      let first = try await repository.backUp()
      let second = try await repository.backUp()
      // Older than any backup needs.
      for segment in try await repository.tier.listAll(prefix: "postgres/wal/") {
        try FileManager.default.setAttributes(
          [.modificationDate: Date(timeIntervalSinceNow: -86_400)], ofItemAtPath: "\(place)/\(segment.key)")
      }
      let file = "\(disk.path)/ballast"
      #expect(FileManager.default.createFile(atPath: file, contents: nil))
      let ballast = try FileHandle(forWritingTo: URL(filePath: file))
      for size in [4096, 512, 1] {
        while (try? ballast.write(contentsOf: Data(repeating: 1, count: size))) != nil {}
      }
      try? ballast.close()
      let arguments = ["prune", "--tier", place, "--keep-last", "1", "--execute", "--patience", "5"]
      let said = try await run("dr-repository", arguments)
      #expect(said.status == 0 && said.output.contains("what needs none went first"), "\(said)")
      #expect(said.output.contains("and 1 segments") && said.output.contains("marked 1"), "\(said)")
      let ids = try await Repository(tier: repository.tier).catalog().backups.map(\.id)
      #expect(ids == [first.id, second.id])
    }
  }
}
