import DRCore
import DRFiles
import DRTestSupport
import Foundation
import Testing

@Suite struct ManyFilesTests {
  /// Runs the program, and gives the most memory that it had, in MiB.
  private func peak(_ arguments: String...) async throws -> Int {
    let script = """
      import resource, subprocess, sys
      subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
      print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
      """
    let result = try await runCommand(
      "python3", ["-c", script, ChildProcess.program("dr-files")] + arguments, timeLimit: .seconds(600))
    guard result.status == 0,
      let number = Int(String(decoding: result.output, as: UTF8.self).trimmingCharacters(in: .newlines))
    else { throw DRError(.programFailed, "dr-files failed: \(result.error)") }
    return number
  }

  @Test("100,000 small files are captured and restored, whole and in place, in bounded memory")
  func manyFiles() async throws {
    // In memory: a disk would take minutes to make and to remove them.
    try await Place.with(inMemory: true) { place in
      try await shell(
        """
        python3 - "$1" <<'END'
        import os, sys
        for folder in range(200):
            path = f"{sys.argv[1]}/folder-{folder:03d}"
            os.makedirs(path)
            for number in range(500):
                with open(f"{path}/settings-of-service-{number:04d}.conf", "w") as file:
                    file.write(f"service = {folder}.{number}\\n" * (number % 40))
        END
        """, place.tree)
      let config = place.folder + "/dr.json"
      try Data(#"{"repository": "\#(place.folder)/repository", "component": "config/app"}"#.utf8).write(
        to: URL(fileURLWithPath: config))
      let captured = try await peak("capture", "--config", config, place.tree)
      let manifest = try #require(try await place.repository.catalog().backups.first)
      #expect(manifest.properties["files"] == .integer(100_000))
      let restored = try await peak("restore", "--config", config, "--to", place.folder + "/back")
      #expect(try await shell(#"diff -r "$1/tree" "$1/back""#, place.folder).isEmpty)
      try await shell(
        #"find "$1" -name '*-000[0-4].conf' -exec sh -c 'for f; do echo other > "$f"; done' sh {} +"#,
        place.folder + "/back")
      let inPlace = try await peak("restore", "--config", config, "--to", place.folder + "/back", "--in-place")
      #expect(try await shell(#"rm -r "$1"/back/.dr-before-*; diff -r "$1/tree" "$1/back""#, place.folder).isEmpty)
      print("100,000 files: peak \(captured) MiB captured, \(restored) MiB restored, \(inPlace) MiB in place")
      #expect(captured < 160 && restored < 200 && inPlace < 260, "\(captured), \(restored), \(inPlace) MiB")
    }
  }
}
