import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

@Suite(.serialized) struct RedisSnapshotTests {
  /// Diskless and through a file, while the server is written to; the stock program and a server are the judges.
  @Test(arguments: ["yes", "no"])
  func aSnapshotIsWhatTheServerHolds(diskless: String) async throws {
    try await RedisFixture.withServer(RedisFixture.options(["repl-diskless-sync": diskless])) { server in
      try await RedisFixture.fill(server, keys: 2000)
      let digest = try await RedisFixture.digest(server)
      let info = try await RedisFixture.info(server)
      try await RedisFixture.withRepository { repository, folder in
        let manifest = try await repository.backUp(
          RedisSnapshot(component: try RedisFixture.component(), server: server.settings), cadence: .hourly,
          logger: RedisFixture.logger)
        let properties = manifest.properties
        #expect(properties["transfer"]?.string == (diskless == "yes" ? "diskless" : "disk-based"))
        #expect(manifest.serverVersion == server.installation.version)
        let keys = properties["keysPerDatabase"]?.object?.mapValues { $0.integer ?? 0 }
        #expect(keys == ["0": info.keysByDatabase[0] ?? -1, "3": 1])
        #expect(properties["keysByType"]?.object?["stream"]?.integer == 5)
        #expect(properties["expiriesPerDatabase"]?.object?["0"]?.integer == 2000)
        #expect(properties["functions"]?.integer == 1)
        #expect(properties["checksum"]?.string == "verified")
        #expect(properties["largestKeys"]?.array?.isEmpty == false)
        #expect(properties["usedMemory"]?.integer ?? 0 > 100_000)
        // The first replica begins a history of its own.
        let history = try await RedisFixture.info(server)["master_replid"]
        #expect(manifest.recoveryPoint.history == history)
        #expect(manifest.artifacts.map(\.name) == ["config.json", "dump.rdb"])
        #expect(manifest.leftOut.contains { $0.what.contains("ACL") && $0.reason.contains("encrypted") })

        let data = folder + "/data"
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: false)
        let content = try await repository.reader(for: manifest).read(manifest.artifact("dump.rdb")).collect(
          limit: 1 << 30)
        try Data(content.readableBytesView).write(to: URL(filePath: data + "/dump.rdb"))
        let judged = try await RedisFixture.program(server, "redis-check-rdb", [data + "/dump.rdb"])
        #expect(judged.0 == 0 && judged.1.contains("Checksum OK"), "\(judged.1)")
        let restored = try await RedisSandbox.prepare(
          RedisFixture.options(), dataFolder: data, logger: RedisFixture.logger)
        try await RedisSandbox.with(restored) { restored in
          try await restored.start()
          #expect(try await RedisFixture.digest(restored) == digest)
        }

        // And from that file.
        let again = try await repository.backUp(
          RedisSnapshot(component: try RedisFixture.component(), file: data + "/dump.rdb"), cadence: .daily,
          logger: RedisFixture.logger)
        #expect(again.properties["keysPerDatabase"] == properties["keysPerDatabase"])
        #expect(again.recoveryPoint.position == manifest.recoveryPoint.position)
        #expect(try again.artifact("dump.rdb").rawSHA256 == manifest.artifact("dump.rdb").rawSHA256)
      }
    }
  }

  /// Users are in it only if it is encrypted; passwords of the configuration never are.
  @Test func secretsAreEncryptedOrLeftOut() async throws {
    try await RedisFixture.withServer { server in
      try await server.command("ACL", "SETUSER", "app", "on", ">geheim", "~*", "+@all")
      try await server.command("CONFIG", "SET", "masterauth", "streng-geheim")
      let identity = AgeIdentity.generate()
      let recipient = try #require(identity.recipient)
      try await RedisFixture.withRepository { repository, _ in
        let manifest = try await repository.backUp(
          RedisSnapshot(component: try RedisFixture.component(), server: server.settings), cadence: .hourly,
          encoding: Encoding(recipients: [recipient]), logger: RedisFixture.logger)
        #expect(manifest.leftOut.isEmpty)
        let reader = repository.reader(for: manifest, decoding: Decoding(identities: [identity]))
        let users = try await reader.read(manifest.artifact("acl.txt")).collect(limit: 1 << 20)
        #expect(String(buffer: users).contains("user app on #"))
        let configuration = String(
          buffer: try await reader.read(manifest.artifact("config.json")).collect(limit: 1 << 20))
        #expect(configuration.contains("maxmemory-policy") && !configuration.contains("geheim"))
      }
    }
  }

  /// The least that the backup user needs; what it may not ask is left out, and said.
  @Test func aUserWithThreeRights() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.fill(server)
      try await server.command("ACL", "SETUSER", "backup", "on", ">geheim", "+psync", "+replconf", "+ping")
      var settings = server.settings
      (settings.user, settings.password) = ("backup", .value("geheim"))
      try await RedisFixture.withRepository { [settings] repository, _ in
        let source = RedisSnapshot(component: try RedisFixture.component(), server: settings)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        #expect(manifest.artifacts.map(\.name) == ["dump.rdb"] && manifest.leftOut.count == 2)
        try await server.command("ACL", "SETUSER", "backup", "-psync")
        let error = try await #require(throws: DRError.self) {
          try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        }
        #expect(error.redisError?.kind == "NOPERM" && error.advice?.contains("+psync") == true)
        #expect(try await repository.catalog(of: source.component).backups.count == 1)
      }
    }
  }

  /// Damaged, cut, or without a checksum: nothing is committed.
  @Test func whatIsNotRightIsNeverCommitted() async throws {
    try await RedisFixture.withServer(RedisFixture.options(["rdbchecksum": "no"])) { server in
      try await RedisFixture.fill(server)
      try await RedisFixture.withRepository { repository, folder in
        let component = try RedisFixture.component()
        var source = RedisSnapshot(component: component, server: server.settings)
        let error = try await #require(throws: DRError.self) {
          try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        }
        #expect(error.code == .sourceDamaged && error.message.contains("checksum"))
        source.acceptsMissingChecksum = true
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        #expect(manifest.properties["checksum"]?.string == "absent")

        // The child of the snapshot may not have ended yet, and the server saves once at a time.
        try await RedisFixture.eventually("the end of the snapshot's child") {
          try await RedisFixture.info(server, "persistence")["rdb_bgsave_in_progress"] == "0"
        }
        try await server.command("SAVE")
        let whole = try Data(contentsOf: URL(filePath: server.dataFolder + "/dump.rdb"))
        let path = folder + "/cut.rdb"
        var random = TestData.Random(seed: 8)
        for _ in 0..<20 {
          try whole.prefix(Int.random(in: 0..<whole.count, using: &random)).write(to: URL(filePath: path))
          let error = try await #require(throws: DRError.self) {
            try await repository.backUp(
              RedisSnapshot(component: component, file: path), cadence: .daily, logger: RedisFixture.logger)
          }
          #expect([.truncatedData, .malformedData, .sourceDamaged].contains(error.code), "\(error)")
        }
        #expect(try await repository.catalog(of: component).backups.map(\.id) == [manifest.id])
      }
    }
  }

  /// A file of `redis-cli --rdb` is taken. What that leaves where a longer file was (it cuts nothing off), or in a pipe
  /// (the mark behind the end), is refused.
  @Test func filesOfTheStockProgram() async throws {
    try await RedisFixture.withServer { server in
      try await RedisFixture.fill(server)
      guard case .unix(let socket) = server.settings.address else { throw DRError(.invalidConfiguration, "no socket") }
      try await RedisFixture.withRepository { repository, folder in
        let path = folder + "/stock.rdb"
        let taken = try await RedisFixture.program(server, "redis-cli", ["-s", socket, "--rdb", path])
        #expect(taken.0 == 0, "\(taken.1)")
        let source = RedisSnapshot(component: try RedisFixture.component(), file: path)
        let manifest = try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        #expect(manifest.properties["keys"]?.integer == (try await server.command("DBSIZE").integer ?? 0) + 1)
        let whole = try Data(contentsOf: URL(filePath: path))
        for rest in [Data(String(repeating: "e", count: 40).utf8), whole.suffix(300), Data([10])] {
          try (whole + rest).write(to: URL(filePath: path))
          let error = try await #require(throws: DRError.self) {
            try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
          }
          #expect(error.code == .malformedData && error.message.contains("bytes after the end"), "\(error)")
        }
        #expect(try await repository.catalog(of: source.component).backups.map(\.id) == [manifest.id])
      }
    }
  }

  /// The server dies, or its child does, in the middle of sending.
  @Test func aServerThatDiesLeavesNothing() async throws {
    try await RedisFixture.withServer(RedisFixture.options(["rdb-key-save-delay": "300"])) { server in
      try await RedisFixture.fill(server, keys: 3000)
      try await RedisFixture.withRepository { repository, _ in
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        let running = Task {
          try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        }
        try await RedisFixture.eventually("the transfer to begin") {
          try await RedisFixture.info(server, "persistence").integer("rdb_bgsave_in_progress") == 1
        }
        try await Task.sleep(for: .milliseconds(300))
        try await server.kill()
        let error = await #expect(throws: DRError.self) { _ = try await running.value }
        #expect(error?.code == .sourceFailed || error?.code == .truncatedData, "\(String(describing: error))")
        let catalog = try await repository.catalog(of: source.component)
        #expect(catalog.backups.isEmpty)
        #expect(try await repository.tier.listAll(prefix: "").isEmpty)
      }
    }
  }

  /// Cancelled: the server's connection ends at once, and nothing is left.
  @Test func cancellation() async throws {
    try await RedisFixture.withServer(RedisFixture.options(["rdb-key-save-delay": "300"])) { server in
      try await RedisFixture.fill(server, keys: 3000)
      try await RedisFixture.withRepository { repository, _ in
        let source = RedisSnapshot(component: try RedisFixture.component(), server: server.settings)
        let running = Task {
          try await repository.backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        }
        try await RedisFixture.eventually("the transfer to begin") {
          try await RedisFixture.info(server, "persistence").integer("rdb_bgsave_in_progress") == 1
        }
        running.cancel()
        _ = await running.result
        try await RedisFixture.eventually("the replica to be gone") {
          try await RedisFixture.info(server, "replication")["connected_slaves"] == "0"
        }
        #expect(try await repository.tier.listAll(prefix: "").isEmpty)
      }
    }
  }
}
