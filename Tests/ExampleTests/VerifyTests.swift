import DRTestSupport
import Foundation
import Testing

/// `verify`, for the programs that have no check of their own.
struct VerifyTests {
  @Test(
    "A backup of files is verified; one flipped byte, and an artifact that is gone, are exit code 1, no backup is 2")
  func files() async throws {
    try await ProgramPlace.with("dr-files", component: "config/app") { place in
      let tree = place.folder + "/tree"
      mkdir(tree, 0o755)
      try Data([UInt8](TestData.rows(2 << 20).readableBytesView)).write(to: URL(filePath: tree + "/file"))
      #expect(try await place.run("init").status == 0)
      #expect(try await place.run("verify").status == 2)
      #expect(try await place.run("capture", tree).status == 0)
      let good = try await place.run("verify")
      #expect(good.status == 0 && good.output.contains("passed artifact-digest"), "\(good)")
      let artifact = try #require(try place.plainFiles().first { $0.hasSuffix("tree.tar.zst") })
      var content = try Data(contentsOf: URL(filePath: artifact))
      content[content.count / 2] ^= 1
      try content.write(to: URL(filePath: artifact))
      let damaged = try await place.run("verify")
      #expect(damaged.status == 1 && damaged.output.contains("failure artifact-digest"), "\(damaged)")
      // Their sizes alone are as they were.
      #expect(try await place.run("verify", "--level", "metadata").status == 0)
      try FileManager.default.removeItem(atPath: artifact)
      let gone = try await place.run("verify", "--level", "metadata")
      #expect(gone.status == 1 && gone.output.contains("failure artifact-present"), "\(gone)")
    }
  }
}
