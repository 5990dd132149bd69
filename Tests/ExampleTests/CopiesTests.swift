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
}
