import DRTestSupport
import Foundation
import Testing

/// Restores that go on at a copy of the repository.
struct CopiesTests {
  @Test(
    "An artifact that is damaged, or gone, is read from a copy that the configuration names; a copy that is away is said"
  )
  func fallsOver() async throws {
    try await ProgramPlace.with("dr-files", component: "config/app") { place in
      let (tree, copy) = (place.folder + "/tree", place.folder + "/copy")
      mkdir(tree, 0o755)
      try Data([UInt8](TestData.rows(3 << 20).readableBytesView)).write(to: URL(filePath: tree + "/file"))
      #expect(try await place.run("init").status == 0)
      let taken = try await place.run("capture", tree)
      try #require(taken.status == 0, "\(taken.error)")
      for (program, arguments) in [
        ("dr-tier", ["init", "--tier", copy]),
        ("dr-repository", ["replicate", "--from", place.repository, "--to", copy]),
      ] {
        let made = try await runCommand(ReceiverProcess.built(program), arguments)
        try #require(made.status == 0, "\(made.error)")
      }
      let artifact = try #require(try place.plainFiles().first { $0.hasSuffix("tree.tar.zst") })
      let whole = try Data(contentsOf: URL(filePath: artifact))
      var damaged = whole
      damaged[damaged.count / 2] ^= 1
      try damaged.write(to: URL(filePath: artifact))

      let alone = try await place.run("restore", "--to", place.folder + "/alone")
      #expect(alone.status == 2 && alone.error.contains("[corrupt-data]"), "\(alone.error)")
      let fields = ", \"plaintext\": true, \"copies\": [\"\(copy)\"]"
      try place.configure(component: "config/app", fields: fields)
      let second = try await place.run("restore", "--to", place.folder + "/second")
      #expect(second.status == 0, "\(second.error)")
      try FileManager.default.removeItem(atPath: artifact)
      let third = try await place.run("restore", "--to", place.folder + "/third")
      #expect(third.status == 0, "\(third.error)")
      for restored in ["second", "third"] {
        let same = try await runCommand("/usr/bin/diff", ["-r", tree, "\(place.folder)/\(restored)"])
        #expect(same.status == 0, "\(String(decoding: same.output, as: UTF8.self))")
      }

      try FileManager.default.moveItem(atPath: copy, toPath: copy + "-away")
      let away = try await place.run("restore", "--to", place.folder + "/fourth")
      #expect(away.status == 2 && away.error.contains("warning: the copy \(copy) cannot be read from"), "\(away.error)")
      #expect(!FileManager.default.fileExists(atPath: place.folder + "/fourth"))
      // A repository that is gone itself is another thing: its copy is to be named.
      try FileManager.default.moveItem(atPath: place.repository, toPath: place.repository + "-away")
      let lost = try await place.run("restore", "--to", place.folder + "/fifth")
      #expect(lost.status == 2 && lost.error.contains("whose repository is \(copy)"), "\(lost.error)")
    }
  }

  @Test("A backup that only a copy has is named, with the command that brings it back; then it is restored")
  func onlyOnACopy() async throws {
    try await ProgramPlace.with("dr-files", component: "config/app") { place in
      let (tree, copy) = (place.folder + "/tree", place.folder + "/copy")
      mkdir(tree, 0o755)
      try "one".write(toFile: tree + "/file", atomically: true, encoding: .utf8)
      #expect(try await place.run("init").status == 0)
      try #require(try await place.run("capture", tree).status == 0)
      try #require(try await runCommand(ReceiverProcess.built("dr-tier"), ["init", "--tier", copy]).status == 0)
      let there = ["replicate", "--from", place.repository, "--to", copy]
      try #require(try await runCommand(ReceiverProcess.built("dr-repository"), there).status == 0)
      let manifest = try #require(try place.files("/metadata/").first { $0.hasSuffix(".json") })
      try FileManager.default.removeItem(atPath: manifest)
      try place.configure(component: "config/app", fields: ", \"plaintext\": true, \"copies\": [\"\(copy)\"]")
      let lost = try await place.run("restore", "--to", place.folder + "/back")
      let command = "dr-repository replicate --from \(copy) --to \(place.repository)"
      #expect(lost.status == 2 && lost.error.contains(command), "\(lost.error)")
      let back = ["replicate", "--from", copy, "--to", place.repository]
      try #require(try await runCommand(ReceiverProcess.built("dr-repository"), back).status == 0)
      #expect(try await place.run("restore", "--to", place.folder + "/back").status == 0)
      #expect(try String(contentsOfFile: place.folder + "/back/file", encoding: .utf8) == "one")
    }
  }

  @Test(
    "What is archived in the way of a restore, a whole chain of it, is named at once, and thawed by what is advised")
  func archivedChain() async throws {
    let server = try await S3TestServer.shared(.moto)
    try await server.withBucket { bucket in
      try await withTemporaryFolder { folder in
        let (tree, near) = ("\(folder)/tree", "\(folder)/near")
        mkdir(tree, 0o755)
        func configure(_ repository: String) throws -> String {
          let path = "\(folder)/\(repository.hasPrefix("s3:") ? "far" : "near").json"
          try "{\"repository\": \"\(repository)\", \"component\": \"config/app\", \"plaintext\": true}".write(
            toFile: path, atomically: true, encoding: .utf8)
          return path
        }
        let local = try configure(near)
        try #require(try await server.run("dr-files", ["init", "--config", local]).status == 0)
        for round in 0..<3 {
          try "\(round)".write(toFile: "\(tree)/file-\(round)", atomically: true, encoding: .utf8)
          let taken = try await server.run("dr-files", ["capture", "--config", local, tree, "--incremental"])
          try #require(taken.status == 0, "\(taken)")
        }
        let place = "s3://\(bucket)/cold"
        let copied = try await server.run(
          "dr-repository", ["replicate", "--from", near, "--to", place, "--storage-class", "GLACIER"])
        try #require(copied.status == 0, "\(copied)")
        let far = try configure(place)
        let restore = ["restore", "--config", far, "--to", "\(folder)/back"]
        let refused = try await server.run("dr-files", restore)
        #expect(refused.status == 2 && refused.error.contains("[object-archived]"), "\(refused)")
        let advised = try #require(refused.error.firstMatch(of: /dr-tier (thaw --tier .*\/')/))
        let thaw = advised.1.split(separator: " ").map { $0.trimmingCharacters(in: ["'"]) }
        #expect(thaw.count == 6, "a folder for each of three backups: \(thaw)")
        let thawed = try await server.run("dr-tier", thaw)
        #expect(thawed.status == 0, "\(thawed)")
        let restored = try await server.run("dr-files", restore)
        #expect(restored.status == 0, "\(restored)")
        let same = try await runCommand("/usr/bin/diff", ["-r", tree, "\(folder)/back"])
        #expect(same.status == 0, "\(String(decoding: same.output, as: UTF8.self))")
      }
    }
  }
}
