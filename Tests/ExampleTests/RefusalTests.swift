import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import Testing

/// What dr-postgres must not do for whoever asks it by mistake.
struct RefusalTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  @Test("A second cluster, a destination that the restore needs, and a manifest that cannot be read are refused")
  func refusals() async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      try await PostgresSandbox.withSandbox(logger: Self.logger) { server in
        for senseless in [["--workers", "0"], ["--workers", "100000"], ["--max-rate", "0"], ["--wal-timeout", "0"]] {
          let result = try await place.run("backup", senseless[0], senseless[1], at: server)
          #expect(result.status == 64 && result.error.contains(senseless[0]), "\(result.error)")
        }
        let taken = try await place.run("backup", "--include-wal", at: server)
        try #require(taken.status == 0, "\(taken.error)")
      }
      try await PostgresSandbox.withSandbox(logger: Self.logger) { other in
        let refused = try await place.run("backup", "--include-wal", at: other)
        #expect(refused.status == 2 && refused.error.contains("--new-system"), "\(refused.error)")
        let accepted = try await place.run("backup", "--include-wal", "--new-system", at: other)
        #expect(accepted.status == 0, "\(accepted.error)")
      }

      // A target that lies too far back is answered in its own terms.
      let early = try await place.run("restore", "--to", place.folder + "/restored", "--target-lsn", "0/1")
      #expect(early.status == 2 && early.error.contains(/reaches back to 0\/[0-9A-F]+ \(/), "\(early.error)")

      let before = try FileManager.default.subpathsOfDirectory(atPath: place.folder).sorted()
      for destination in ["", place.repository, place.repository + "/inside", place.folder] {
        let result = try await place.run("restore", "--to", destination, "--replace", "--immediate")
        #expect(result.status == 2 && result.error.contains("nothing was touched"), "\(destination): \(result.error)")
      }
      #expect(try FileManager.default.subpathsOfDirectory(atPath: place.folder).sorted() == before)
      #expect(try await place.run("clean", "--older-than-hours", "0").status == 64)

      // The first of the two manifests.
      let manifests = place.repository + "/postgres/metadata"
      let names = try FileManager.default.contentsOfDirectory(atPath: manifests).sorted()
      let first = "\(manifests)/\(try #require(names.first))"
      try "{}".write(toFile: first, atomically: false, encoding: .utf8)
      let checked = try await place.run("check-wal")
      #expect(checked.status == 1, "\(checked.output) \(checked.error)")
      #expect(checked.output.contains("cannot be read"))
    }
  }

  @Test("A component of another kind is not backed up as PostgreSQL")
  func otherKind() async throws {
    try await ProgramPlace.with(component: "redis/test") { place in
      let result = try await place.run("init")
      #expect(result.status == 2 && result.error.contains("postgres/"), "\(result.error)")
      #expect(!FileManager.default.fileExists(atPath: place.repository))
    }
  }

  @Test("A repository that was never made is not looked for in vain: the message names the command that makes it")
  func beforeInit() async throws {
    try await ProgramPlace.with { place in
      for _ in 0..<2 {
        for command in [["backup"], ["list"], ["check-wal"], ["restore", "--to", place.folder + "/restored"]] {
          let result = try await runCommand(ProgramPlace.program, place.arguments(command))
          let names = result.error.contains("dr-postgres init --config '\(place.config)'")
          #expect(result.status == 2 && names, "\(result.error)")
        }
        // The same if the folder is there and empty.
        try? FileManager.default.createDirectory(atPath: place.repository, withIntermediateDirectories: false)
      }
      #expect(try place.files("").isEmpty)
    }
  }

  @Test("init takes no folder that holds something, unless told to adopt it")
  func foreignFolder() async throws {
    try await ProgramPlace.with { place in
      #expect(try await place.run("init").status == 0)
      #expect(try await place.run("init").status == 0)
      let marker = place.repository + "/.dr-tier"
      try FileManager.default.removeItem(atPath: marker)
      // As it is in a new file system.
      try FileManager.default.createDirectory(
        atPath: place.repository + "/lost+found", withIntermediateDirectories: false)
      #expect(try await place.run("init").status == 0)
      try FileManager.default.removeItem(atPath: marker)
      try "x".write(toFile: place.repository + "/letters", atomically: false, encoding: .utf8)
      let refused = try await place.run("init")
      #expect(
        refused.status == 2 && refused.error.contains("letters") && refused.error.contains("--adopt"),
        "\(refused.error)")
      #expect(!FileManager.default.fileExists(atPath: marker))
      #expect(try await place.run("init", "--adopt").status == 0)
      #expect(try await place.run("list").status == 0)
    }
  }
}
