import DRCore
import DRRedis
import DRTestSupport
import Foundation
import Logging
import Testing

/// `dr-redis restore --online` that is told to stop, or killed, while the server loads; and what it says when it is done.
struct RedisRestoreSignalTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private static func address(_ server: RedisSandbox) throws -> String {
    guard case .unix(let socket) = server.settings.address else {
      throw DRError(.invalidConfiguration, "the server has no socket")
    }
    return "unix://\(socket)"
  }

  private static func info(_ server: RedisSandbox) async throws -> RedisInfo {
    RedisInfo(try await server.command("INFO", "everything").text ?? "")
  }

  /// A repository with a backup of 2,000 keys, and a server that takes seconds to load them.
  private static func withPlace(_ body: (ProgramPlace, RedisSandbox, String) async throws -> Void) async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      try #require(try await place.run("init").status == 0)
      try await RedisSandbox.withSandbox(logger: logger) { production in
        try await production.command("EVAL", "for i = 1, 2000 do redis.call('SET', 'key:' .. i, i) end", "0")
        let taken = try await place.run("backup", "--server", try address(production))
        try #require(taken.status == 0, "\(taken.error)")
      }
      let slow = RedisSandbox.Options(
        settings: ["key-load-delay": "1500", "loading-process-events-interval-bytes": "1024"])
      try await RedisSandbox.withSandbox(slow, logger: logger) { target in
        try await body(place, target, try address(target))
      }
    }
  }

  @Test("Told to stop, it makes the server a master again and says what it holds", arguments: [SIGTERM, SIGINT])
  func told(signal: Int32) async throws {
    try await Self.withPlace { place, target, address in
      let replaces = signal == SIGINT
      if replaces { try await target.command("SET", "former", "data") }
      let running = try RunningProgram(
        place.arguments(["restore", "--online", "--server", address] + (replaces ? ["--replace"] : [])),
        of: place.program, in: place.folder)
      try await eventually("it to load") { try await Self.info(target)["loading"] == "1" }
      running.send(signal)
      let ended = try await running.end(within: .seconds(30))
      #expect(ended.status == 128 + signal, "\(ended.said)")
      let name = signal == SIGINT ? "SIGINT" : "SIGTERM"
      #expect(ended.said.contains("ended by \(name): the target is a master and holds"), "\(ended.said)")
      #expect(ended.said.contains("What to do: run the restore again"), "\(ended.said)")
      #expect(ended.said.contains("kept: what was there, as backup_") == replaces, "\(ended.said)")
      let info = try await Self.info(target)
      #expect(info["role"] == "master" && info["loading"] == "0")
    }
  }

  @Test("Killed, it leaves a replica of nobody, which the same command knows and --replace takes over")
  func killed() async throws {
    try await Self.withPlace { place, target, address in
      let arguments = ["restore", "--online", "--server", address]
      let running = try RunningProgram(place.arguments(arguments), of: place.program, in: place.folder)
      try await eventually("it to load") { try await Self.info(target)["loading"] == "1" }
      running.send(SIGKILL)
      #expect(try await running.end(within: .seconds(10)).status == 137)
      try await eventually("it to have loaded") {
        let info = try await Self.info(target)
        return info["loading"] == "0" && info["master_link_status"] == "down"
      }
      #expect(try await Self.info(target)["role"] == "slave")
      let again = try await place.run(arguments)
      #expect(again.status == 2 && again.error.contains("at which nobody listens"), "\(again.error)")
      #expect(again.error.contains("--replace") && again.error.components(separatedBy: "What to do:").count == 2)
      let replaced = try await place.run(arguments + ["--replace"])
      #expect(replaced.status == 0, "\(replaced.error)")
      #expect(
        replaced.output.contains(": 2000 keys are there") && replaced.output.contains("to offset "),
        "\(replaced.output)")
      #expect(try await Self.info(target)["role"] == "master")
    }
  }

  @Test("What a killed restore by file left is mentioned, and what interrupted backups left is cleaned")
  func leftovers() async throws {
    try await Self.withPlace { place, _, _ in
      let folder = place.folder + "/data"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
      let left = folder + "/dump.rdb.restoring-20260101_000000"
      try Data().write(to: URL(filePath: left))
      let restored = try await place.run("restore-file", "--to", folder, "--append-only", "no")
      #expect(restored.status == 0 && restored.error.contains(left), "\(restored.error)")
      let inspected = try await place.run("inspect")
      #expect(inspected.status == 0 && inspected.output.contains("  database 0  key:"), "\(inspected.output)")
      let cleaned = try await place.run("clean")
      #expect(cleaned.status == 0 && cleaned.output.contains("removed 0 interrupted backups"), "\(cleaned.output)")
    }
  }
}
