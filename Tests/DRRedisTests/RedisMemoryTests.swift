import DRCore
import DRRedis
import DRStorage
import DRTestSupport
import Foundation
import Logging
import NIOCore
import Testing

/// How much memory a process of its own takes.
@Suite(.serialized) struct RedisMemoryTests {
  /// A value of 200 MB, and as much again in small ones, into a tier that takes nothing at first: neither is held. It is
  /// measured in a process of its own, which is told by a file where everything is.
  @Test func aSnapshotOfLargeValuesIntoASlowTier() async throws {
    let settings = ["rdbcompression": "no", "proto-max-bulk-len": "1gb"]
    try await RedisFixture.withServer(RedisFixture.options(settings)) { server in
      try await server.command("SETRANGE", "large", "\(200 << 20)", "x")
      let script = """
        for i = 1, 2000 do redis.call('SET', ARGV[1] .. i, string.rep(i .. ' ', 1000)) end
        for i = 1, 4000 do redis.call('RPUSH', ARGV[1] .. 'list', string.rep(i .. ' ', 2000)) end
        """
      for part in 0..<6 { try await server.command("EVAL", script, "0", "\(part):") }
      guard case .unix(let socket) = server.settings.address else { throw DRError(.invalidConfiguration, "no socket") }
      let folder = "/tmp/drt-memory-\(getpid())"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
      defer { try? FileManager.default.removeItem(atPath: folder) }
      try socket.write(toFile: folder + "/socket", atomically: true, encoding: .utf8)
      await #expect(processExitsWith: .success) {
        let folder = "/tmp/drt-memory-\(getppid())"
        let server = RedisConnectionSettings(socket: try String(contentsOfFile: folder + "/socket", encoding: .utf8))
        let tier = DyingTier(try await LocalTier(root: folder + "/repository", creating: true))
        // The first is the marker of the backup.
        tier.dawdle(.seconds(3), after: 1, count: 1)
        var source = RedisSnapshot(component: try RedisFixture.component(), server: server)
        source.spool.folder = folder
        let before = try RedisMemoryTests.memory("VmRSS")
        let manifest = try await Repository(tier: tier).backUp(source, cadence: .hourly, logger: RedisFixture.logger)
        let peak = try RedisMemoryTests.memory("VmHWM")
        try "\(peak - before) \(manifest.artifact("dump.rdb").rawSize) \(manifest.properties["keys"]?.integer ?? 0)"
          .write(toFile: folder + "/result", atomically: true, encoding: .utf8)
      }
      let result = try String(contentsOfFile: folder + "/result", encoding: .utf8).split(separator: " ").compactMap {
        Int($0)
      }
      try #require(result.count == 3)
      print("a snapshot of \(result[1] >> 20) MiB took \(result[0] >> 20) MiB of memory")
      #expect(result[0] < 100 << 20 && result[1] > 400 << 20 && result[2] == 12_007)
    }
  }

  /// In bytes.
  private static func memory(_ name: String) throws -> Int {
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix(name + ":") })
    return try #require(line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }) << 10
  }
}
