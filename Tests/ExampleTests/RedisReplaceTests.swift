import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import Logging
import Testing

/// `dr-redis` beside data that is not the component's own, and a repository that is not whole.
struct RedisReplaceTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private static func address(_ server: RedisSandbox) throws -> String {
    guard case .unix(let socket) = server.settings.address else {
      throw DRError(.invalidConfiguration, "the server has no socket")
    }
    return "unix://\(socket)"
  }

  /// A repository with so many backups of one server that holds `own`.
  private static func with(backups: Int, _ body: (ProgramPlace) async throws -> Void) async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      let made = try await place.run("init")
      try #require(made.status == 0, "\(made.error)")
      try await RedisSandbox.withSandbox(logger: logger) { production in
        try await production.command("SET", "own", "data")
        for _ in 0..<backups {
          let taken = try await place.run("backup", "--server", try address(production))
          try #require(taken.status == 0, "\(taken.error)")
        }
      }
      try await body(place)
    }
  }

  @Test(
    "What a restore replaces is kept where no later restore takes it for the component's own, and comes back from there"
  )
  func replaced() async throws {
    try await Self.with(backups: 1) { place in
      try await RedisSandbox.withSandbox(logger: Self.logger) { other in
        let address = try Self.address(other)
        try await other.command("SET", "precious", "other")
        // The second one would take the first one's copy, if that were the newest.
        for _ in 0..<2 {
          let restored = try await place.run("restore", "--online", "--server", address, "--replace")
          try #require(restored.status == 0, "\(restored.error)")
          #expect(restored.output.contains("kept: what was there"), "\(restored.output)")
          #expect(try await other.command("GET", "own").text == "data")
          #expect(try await other.command("DBSIZE").integer == 1)
        }
        let own = Repository(tier: try await LocalTier(root: place.repository))
        #expect(try await own.catalog().backups.count == 1)
        let kept = Repository(tier: try await LocalTier(root: place.repository + "/replaced"))
        let copies = try await kept.catalog().backups.sorted { $0.recoveryPoint.time < $1.recoveryPoint.time }
        try #require(copies.count == 2)

        try "{\"repository\": \"\(place.repository)/replaced\", \"component\": \"redis/test\", \"plaintext\": true}"
          .write(toFile: place.config, atomically: true, encoding: .utf8)
        let back = try await place.run("restore", "--online", "--server", address, "--replace", copies[0].id)
        #expect(back.status == 0, "\(back.error)")
        #expect(try await other.command("GET", "precious").text == "other")
      }
    }
  }

  @Test("A repository is no data folder, and a manifest that cannot be read is a finding")
  func refusals() async throws {
    try await Self.with(backups: 2) { place in
      for (folder, why) in [
        (place.repository, "which the restore needs"), (place.folder, "which the restore needs"),
        (place.repository + "/data", "lies in the repository"), ("", "the destination is empty"),
      ] {
        let refused = try await place.run("restore-file", "--to", folder, "--append-only", "no")
        #expect(refused.status == 2 && refused.error.contains(why), "\(refused.error)")
      }
      #expect(!FileManager.default.fileExists(atPath: place.repository + "/data"))
      let sound = try await place.run("check", "--repository-only")
      #expect(sound.status == 0, "\(sound.output)\(sound.error)")
      let manifests = place.repository + "/redis/metadata"
      let names = try FileManager.default.contentsOfDirectory(atPath: manifests).sorted()
      try "{}".write(
        toFile: "\(manifests)/\(try #require(names.last))", atomically: false, encoding: .utf8)
      let broken = try #require(names.last?.split(separator: ".").first)
      let restored = try await place.run("restore-file", "--to", place.folder + "/older", "--append-only", "no")
      #expect(restored.status == 0 && restored.error.contains("warning: \(broken) cannot be read"), "\(restored.error)")
      let found = try await place.run("check", "--repository-only")
      #expect(found.status == 1 && found.output.contains("failure manifest-readable "), "\(found.output)")
    }
  }
}
