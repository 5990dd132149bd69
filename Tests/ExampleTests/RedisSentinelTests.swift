import DRCore
import DRRedis
import DRSandbox
import DRStorage
import DRTestSupport
import ExampleSupport
import Foundation
import Logging
import NIOCore
import Testing

/// `dr-redis --sentinel`, with a real Sentinel that fails a master over.
@Suite(.serialized) struct RedisSentinelTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
  private static let password = "geheim"

  @Test("Sentinels say who the master is, and the receiver goes on at the next one after a failover")
  func failover() async throws {
    var options = RedisSandbox.Options(settings: ["repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"])
    options.listensOnLoopback = true
    try await withTemporaryFolder { folder in
      let settings = RepositoryConfiguration(
        repository: folder + "/repository", component: try Component(.redis, "test"))
      try JSONEncoder().encode(settings).write(to: URL(filePath: folder + "/dr.json"))
      let repository = Repository(tier: try await settings.tier(creating: true))
      try await RedisSandbox.withSandbox(options, logger: Self.logger) { first in
        try await RedisSandbox.withSandbox(options, logger: Self.logger) { second in
          let port = try #require(first.nodes[0].port)
          try await second.command("REPLICAOF", "127.0.0.1", "\(port)")
          let sentinel = try await Self.startSentinel(folder, watching: port, first.installation.server)
          try await Self.eventually("the Sentinel to know the replica") {
            try await sentinel.ask("SENTINEL", "REPLICAS", "cache").elements?.count == 1
          }
          try await Self.exercise(folder, repository, settings.component, first, second, sentinel)
          sentinel.process.signal(SIGKILL)
          _ = try await sentinel.process.wait()
        }
      }
    }
  }

  @Test("After a failover the receiver leaves the former master within seconds, although that one still answers")
  func theFormerMasterStillAnswers() async throws {
    var options = RedisSandbox.Options(settings: ["repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"])
    options.listensOnLoopback = true
    try await withTemporaryFolder { folder in
      let settings = RepositoryConfiguration(
        repository: folder + "/repository", component: try Component(.redis, "test"))
      try JSONEncoder().encode(settings).write(to: URL(filePath: folder + "/dr.json"))
      let repository = Repository(tier: try await settings.tier(creating: true))
      try await RedisSandbox.withSandbox(options, logger: Self.logger) { first in
        try await RedisSandbox.withSandbox(options, logger: Self.logger) { second in
          let (port, other) = (try #require(first.nodes[0].port), try #require(second.nodes[0].port))
          try await second.command("REPLICAOF", "127.0.0.1", "\(port)")
          let sentinel = try await Self.startSentinel(folder, watching: port, first.installation.server)
          try await Self.eventually("the Sentinel to know the replica") {
            try await sentinel.ask("SENTINEL", "REPLICAS", "cache").elements?.count == 1
          }
          let receiver = try ChildProcess(
            ChildProcess.program("dr-redis"),
            [
              "receive", "--config", folder + "/dr.json", "--partial-interval", "0.1", "--sentinel",
              "127.0.0.1:\(sentinel.port)", "--master-name", "cache",
            ], environment: ["REDIS_SENTINEL_AUTH": Self.password], output: folder + "/receiver.log")
          try await Self.eventually("the snapshot") { receiver.said.contains("committed") }
          try await Self.eventually("the failover to be possible") {
            try await sentinel.ask("SENTINEL", "FAILOVER", "cache") == .simple("OK")
          }
          try await Self.eventually("the failover") {
            try await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "cache").elements?.last?.text == "\(other)"
          }
          let begin = ContinuousClock.now
          func info(_ server: RedisSandbox) async throws -> RedisInfo {
            RedisInfo(try await server.command("INFO", "replication").text ?? "")
          }
          let stale = try await info(first)["role"]
          // Named as a replica without a port: the receiver.
          try await Self.eventually("the receiver at the new master") {
            let replicas = try await info(second)
            return (0..<3).contains { replicas.parts("slave\($0)")["port"] == "0" }
          }
          let took = begin.duration(to: .now)
          print(
            "after a failover the former master was a \(stale ?? "?"), and the receiver was at the new one after \(took)"
          )
          #expect(took < .seconds(5), "\(took)")
          try await second.command("SET", "after", "it")
          let offset = try #require(try await info(second).integer("master_repl_offset"))
          let archive = RedisLogArchive(tier: repository.tier, component: settings.component)
          try await Self.eventually("the log to have it") {
            let backup = try #require(
              try await repository.catalog(of: settings.component).latest(for: settings.component))
            return try await archive.reach(of: backup) ?? 0 >= offset
          }
          receiver.signal(SIGTERM)
          #expect(try await receiver.wait() == 0, "\(receiver.said)")
          sentinel.process.signal(SIGKILL)
          _ = try await sentinel.process.wait()
        }
      }
    }
  }

  private static func exercise(
    _ folder: String, _ repository: Repository, _ component: Component, _ first: RedisSandbox,
    _ second: RedisSandbox, _ sentinel: RunningSentinel
  ) async throws {
    // The first that is named is not there.
    let place = ["--sentinel", "127.0.0.1:1,127.0.0.1:\(sentinel.port)", "--master-name"]
    let passwordFile = folder + "/sentinel.password"
    try password.write(toFile: passwordFile, atomically: true, encoding: .utf8)
    chmod(passwordFile, 0o600)
    let secret = ["--sentinel-password-file", passwordFile]
    let receiver = try ChildProcess(
      ChildProcess.program("dr-redis"),
      ["receive", "--config", folder + "/dr.json", "--partial-interval", "0.1"] + place + ["cache"] + secret,
      output: folder + "/receiver.log")
    try await eventually("the snapshot") { receiver.said.contains("committed") }

    let unknown = try await run(folder, ["backup"] + place + ["other"] + secret)
    #expect(unknown.status == 2 && unknown.error.contains("they know no master of that name"), "\(unknown.error)")
    #expect(unknown.error.contains("SENTINEL MASTERS") && !unknown.error.contains("failover"), "\(unknown.error)")
    let stranger = try await run(folder, ["backup"] + place + ["cache"])
    #expect(stranger.status == 2 && stranger.error.contains("NOAUTH"), "\(stranger.error)")
    #expect(stranger.error.contains("REDIS_SENTINEL_AUTH") && !stranger.error.contains("failover"), "\(stranger.error)")
    let wrong = try await run(folder, ["backup"] + place + ["cache"], ["REDIS_SENTINEL_AUTH": "falsch"])
    #expect(wrong.status == 2 && wrong.error.contains("the password in REDIS_SENTINEL_AUTH"), "\(wrong.error)")
    #expect(!wrong.error.contains("falsch") && !wrong.error.contains("failover"), "\(wrong.error)")
    let nobody = try await run(folder, ["backup", "--sentinel", "127.0.0.1:1", "--master-name", "cache"])
    #expect(nobody.status == 2 && nobody.error.contains("see whether one of the Sentinels runs"), "\(nobody.error)")
    // They know it, and it does not take this password.
    let refused = try await run(
      folder, ["backup"] + place + ["cache"] + secret, ["REDISCLI_AUTH": "falsch"])
    #expect(refused.status == 2 && refused.error.contains("the password in REDISCLI_AUTH"), "\(refused.error)")
    #expect(!refused.error.contains("falsch") && !refused.error.contains("failover"), "\(refused.error)")
    let itself = try await run(
      folder, ["backup", "--server", "redis://127.0.0.1:\(sentinel.port)"], ["REDISCLI_AUTH": password])
    #expect(itself.status == 2 && itself.error.contains("is a Sentinel: it holds no data"), "\(itself.error)")
    let alone = try await run(folder, ["backup", "--sentinel", "127.0.0.1:\(sentinel.port)"])
    #expect(alone.status == 64 && alone.error.contains("belong together"), "\(alone.error)")

    try await first.command("SET", "before", "the failover")
    try await eventually("the replica to have it") { try await second.command("GET", "before").text == "the failover" }
    try await first.kill()
    try await eventually("the failover") {
      RedisInfo(try await second.command("INFO", "replication").text ?? "")["role"] == "master"
    }
    try await eventually("the receiver at the new master") { receiver.said.contains("goes on after offset") }
    #expect(!receiver.said.contains("GAP"), "\(receiver.said)")
    try await second.command("SET", "after", "it too")
    let offset = try #require(
      RedisInfo(try await second.command("INFO", "replication").text ?? "").integer("master_repl_offset"))
    let archive = RedisLogArchive(tier: repository.tier, component: component)
    let backup = try #require(try await repository.catalog(of: component).latest(for: component))
    try await eventually("the log to have it") { try await archive.reach(of: backup) ?? 0 >= offset }

    // The password from the environment; and every other command finds the new master.
    let taken = try await run(
      folder, ["backup", "--cadence", "daily"] + place + ["cache"], ["REDIS_SENTINEL_AUTH": password])
    #expect(taken.status == 0, "\(taken.error)")
    // It takes a Sentinel up to a second after the failover.
    try await eventually("a Sentinel to watch it") {
      try await second.command("PUBSUB", "NUMSUB", "__sentinel__:hello").elements?.last?.integer ?? 0 > 0
    }
    let watched = try await run(folder, ["restore", "--online", "--replace"] + place + ["cache"] + secret)
    #expect(watched.status == 2 && watched.error.contains("Sentinels watch it"), "\(watched.error)")
    let keys = try await run(
      folder, ["restore-keys", "before", "--rename", "before=again"] + place + ["cache"] + secret)
    #expect(keys.status == 0, "\(keys.error)")
    #expect(try await second.command("GET", "again").text == "the failover")

    receiver.signal(SIGTERM)
    #expect(try await receiver.wait() == 0, "\(receiver.said)")
    try await RedisSandbox.withSandbox(logger: logger) { restored in
      _ = try await RedisOnlineRestorer(server: restored.settings, archive: archive).restore(
        from: repository.reader(for: backup), to: .latest, logger: logger)
      #expect(try await restored.command("GET", "before").text == "the failover")
      #expect(try await restored.command("GET", "after").text == "it too")
    }
  }

  // MARK: What it takes

  private struct RunningSentinel {
    let process: ChildProcess
    let port: Int
    let settings: RedisConnectionSettings

    func ask(_ words: String...) async throws -> RESPValue {
      try await RedisConnection.withConnection(settings, logger: RedisSentinelTests.logger) {
        try await $0.command(words)
      }
    }
  }

  private static func startSentinel(
    _ folder: String, watching master: Int, _ server: String
  ) async throws -> RunningSentinel {
    let port = Int(try freePort())
    let file = folder + "/sentinel.conf"
    try """
    bind 127.0.0.1
    port \(port)
    dir \(folder)
    requirepass \(password)
    sentinel monitor cache 127.0.0.1 \(master) 1
    sentinel down-after-milliseconds cache 1000
    sentinel failover-timeout cache 10000
    """.write(toFile: file, atomically: true, encoding: .utf8)
    let process = try ChildProcess(server, [file, "--sentinel"], output: folder + "/sentinel.log")
    let settings = RedisConnectionSettings(host: "127.0.0.1", port: port, password: .value(password))
    let sentinel = RunningSentinel(process: process, port: port, settings: settings)
    try await eventually("the Sentinel") { (try? await sentinel.ask("PING")) == .simple("PONG") }
    return sentinel
  }

  private static func run(
    _ folder: String, _ arguments: [String], _ environment: [String: String] = [:]
  ) async throws -> (status: Int32, error: String) {
    let output = "\(folder)/\(UUID().uuidString).log"
    let all = [arguments[0], "--config", folder + "/dr.json"] + arguments.dropFirst()
    let process = try ChildProcess(
      ChildProcess.program("dr-redis"), all, environment: environment, output: output)
    return (try await process.wait(), process.said)
  }

  private static func eventually(_ what: String, _ isSo: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while try await !isSo() {
      guard ContinuousClock.now < deadline else { throw DRError(.timedOut, "waited in vain for: \(what)") }
      try await Task.sleep(for: .milliseconds(50))
    }
  }
}
