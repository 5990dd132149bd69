import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// What has cost others their data, and is no other suite's matter.
@Suite(.serialized) struct RedisHazardTests {
  /// Times to live that are renewed, set, taken away or run out while the data set is being sent (RedisShake 244).
  @Test func timesToLiveThatChangeDuringTheSnapshot() async throws {
    try await RedisFixture.withServer(RedisFixture.options(["rdb-key-save-delay": "500"])) { server in
      try await RedisFixture.fill(server, keys: 2000)
      for name in ["renewed", "shortened", "persistent", "gone"] {
        try await server.command("SET", name, name, "EX", name == "gone" ? "2" : "1000")
      }
      try await server.command("SET", "set", "set")
      try await RedisFixture.withRepository { repository, _ in
        let log = try RunningLog(RedisFixture.archive(repository), server)
        try await RedisFixture.eventually("the child to save") {
          try await RedisFixture.info(server, "persistence").integer("rdb_bgsave_in_progress") == 1
        }
        try await server.command("EXPIRE", "renewed", "50000")
        try await server.command("EXPIRE", "shortened", "500")
        try await server.command("PERSIST", "persistent")
        try await server.command("EXPIRE", "set", "2000")
        #expect(try await RedisFixture.info(server, "persistence").integer("rdb_bgsave_in_progress") == 1)
        #expect(log.snapshots.isEmpty)
        try await RedisFixture.eventually("the snapshot") { !log.snapshots.isEmpty }
        try await RedisFixture.eventually("one to run out") { try await server.command("EXISTS", "gone").integer == 0 }
        try await log.waitUntilDurable(server)
        let digest = try await RedisFixture.digest(server)
        try await log.stop().get()
        let snapshot = try #require(log.snapshots.first)
        let restored = try await RedisFixture.restoredDigest(snapshot, repository, to: .latest) { restored in
          for name in ["renewed", "shortened", "persistent", "set", "gone"] {
            let times = try await (
              restored.command("PEXPIRETIME", name).integer, server.command("PEXPIRETIME", name).integer
            )
            #expect(times.0 == times.1 && times.0 != nil, "\(name)")
          }
        }
        #expect(restored == digest)
        // The snapshot alone is of the moment before.
        _ = try await RedisFixture.restoredDigest(snapshot, repository, to: .immediate) { restored in
          let renewed = try await restored.command("TTL", "renewed").integer
          let set = try await restored.command("TTL", "set").integer
          #expect(renewed.map { $0 <= 1000 } == true && set == -1)
        }
      }
    }
  }

  private static func withBackup(_ body: (Repository, BackupManifest, String) async throws -> Void) async throws {
    try await RedisFixture.withRepository { repository, _ in
      let (manifest, digest) = try await RedisFixture.withServer { server in
        try await RedisFixture.fill(server)
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        return (manifest, try await RedisFixture.digest(server))
      }
      try await body(repository, manifest, digest)
    }
  }

  /// The rights that the online restorer is documented to need on the target, and no more.
  @Test func aTargetsUserWithFiveRights() async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer { server in
        try await server.command(
          "ACL", "SETUSER", "restorer", "on", ">geheim", "+replicaof", "+info", "+ping", "+config|get", "+bgsave")
        var settings = server.settings
        (settings.user, settings.password) = ("restorer", .value("geheim"))
        _ = try await RedisOnlineRestorer(server: settings).restore(
          from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        #expect(try await RedisFixture.digest(server) == digest)
        #expect(try await RedisFixture.info(server)["role"] == "master")
        try await server.kill()
        try await server.start()
        #expect(try await RedisFixture.digest(server) == digest)
      }
    }
  }

  /// The target has the data and cannot write it down: that is no success, for a crash would bring the old data back.
  @Test func aTargetThatCannotWriteItsDisk() async throws {
    try await Self.withBackup { repository, manifest, digest in
      try await RedisFixture.withServer { server in
        chmod(server.dataFolder, 0o555)
        defer { chmod(server.dataFolder, 0o755) }
        let restorer = RedisOnlineRestorer(server: server.settings)
        let error = await #expect(throws: DRError.self) {
          _ = try await restorer.restore(
            from: repository.reader(for: manifest), to: .latest, logger: RedisFixture.logger)
        }
        #expect(
          error?.message.contains("a crash would bring the old data back") == true, "\(String(describing: error))")
        let (restored, info) = try await (RedisFixture.digest(server), RedisFixture.info(server))
        #expect(restored == digest && info["role"] == "master")
      }
    }
  }
}
