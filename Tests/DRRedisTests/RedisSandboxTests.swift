import DRCore
import DRRedis
import DRTestSupport
import Foundation
import Logging
import Testing

@Suite(.serialized) struct RedisSandboxTests {
  @Test func isHarmlessAndGoneWithoutATrace() async throws {
    let home = try await RedisFixture.withServer { server in
      let findings = try await server.harmlessness(logger: RedisFixture.logger)
      #expect(findings.count == 4 && findings.allSatisfy { $0.severity == .passed })
      if geteuid() == 0 {
        let owner = try FileManager.default.attributesOfItem(atPath: server.dataFolder)[.ownerAccountID] as? Int
        #expect(owner != 0)
      }
      return (server.dataFolder as NSString).deletingLastPathComponent
    }
    #expect(!FileManager.default.fileExists(atPath: home))
    #expect(try processes(marked: home).isEmpty)
  }

  @Test func startsOverAFolderAndAfterAKill() async throws {
    try await RedisFixture.withServer(RedisFixture.options(appendOnly: true, ["appendfsync": "always"])) { server in
      try await RedisFixture.fill(server)
      let digest = try await RedisFixture.digest(server)
      try await server.kill()
      #expect(await server.processID == nil)
      try await server.start()
      #expect(try await RedisFixture.digest(server) == digest)
      try await server.stop(saving: true)
      try await withTemporaryFolder { folder in
        chmod(folder, 0o711)
        let data = folder + "/data"
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: false)
        try FileManager.default.copyItem(atPath: server.dataFolder + "/dump.rdb", toPath: data + "/dump.rdb")
        let over = try await RedisSandbox.prepare(RedisFixture.options(), dataFolder: data, logger: RedisFixture.logger)
        try await RedisSandbox.with(over) { over in
          try await over.start()
          #expect(try await RedisFixture.digest(over) == digest)
        }
        #expect(FileManager.default.fileExists(atPath: data + "/dump.rdb"))
      }
    }
  }

  /// What a copied `dump.rdb` is worth where an append-only file is kept: the server starts empty and overwrites it.
  @Test func theAppendOnlyTrap() async throws {
    try await RedisFixture.withServer(RedisFixture.options(appendOnly: true)) { server in
      try await RedisFixture.fill(server)
      try await server.stop(saving: true)
      let dump = try Data(contentsOf: URL(filePath: server.dataFolder + "/dump.rdb"))
      try FileManager.default.removeItem(atPath: server.dataFolder + "/appendonlydir")
      try await server.start()
      #expect(try await server.command("DBSIZE").integer == 0)
      try await server.command("SAVE")
      #expect(try Data(contentsOf: URL(filePath: server.dataFolder + "/dump.rdb")) != dump)
    }
  }

  @Test func aClusterOfThree() async throws {
    var options = RedisFixture.options()
    options.clusterNodes = 3
    try await RedisFixture.withServer(options) { cluster in
      #expect(cluster.nodes.count == 3)
      for index in 0..<3 {
        let info = try await cluster.command("CLUSTER", "INFO", node: index).text ?? ""
        #expect(info.contains("cluster_state:ok"))
      }
    }
  }

  @Test func aServerThatDoesNotStartSaysWhy() async throws {
    let error = try await #require(throws: DRError.self) {
      _ = try await RedisSandbox.create(RedisSandbox.Options(settings: ["nonsense": "1"]), logger: RedisFixture.logger)
    }
    #expect(error.code == .programFailed && error.message.contains("nonsense"))
  }

  /// A process makes a sandbox and is killed: the next one finds its server running, and ends it.
  @Test func aSandboxWhoseProcessWasKilledIsRemovedByTheNext() async throws {
    let parent = "/tmp/drt-redis-\(getpid())"
    try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: parent) }
    await #expect(processExitsWith: .signal(SIGKILL)) {
      var options = RedisSandbox.Options()
      options.parentFolder = "/tmp/drt-redis-\(getppid())"
      _ = try await RedisSandbox.create(options, logger: Logger(label: "child"))
      kill(getpid(), SIGKILL)
    }
    let name = try #require(try FileManager.default.contentsOfDirectory(atPath: parent).first)
    #expect(try !processes(marked: name).isEmpty)
    let removed = try await RedisSandbox.removeAbandoned(in: parent, logger: RedisFixture.logger)
    #expect(removed == ["\(parent)/\(name)"])
    #expect(try processes(marked: name).isEmpty)
    #expect(try FileManager.default.contentsOfDirectory(atPath: parent).isEmpty)
  }

  private func processes(marked mark: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").filter { Int32($0) != nil }.filter {
      let line = (try? String(contentsOfFile: "/proc/\($0)/cmdline", encoding: .utf8)) ?? ""
      return line.contains("redis-server") && line.contains((mark as NSString).lastPathComponent)
    }
  }
}
