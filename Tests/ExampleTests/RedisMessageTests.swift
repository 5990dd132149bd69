import DRCore
import DRRedis
import DRTestSupport
import Foundation
import Logging
import Testing

/// What `dr-redis` says: the reason that is so, and what helps against that one.
@Suite(.serialized) struct RedisMessageTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })

  private static func with(_ count: Int, _ body: (ProgramPlace, [RedisSandbox], [String]) async throws -> Void)
    async throws
  {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      try #require(try await place.run("init").status == 0)
      var options = RedisSandbox.Options(settings: ["repl-diskless-sync-delay": "0"])
      options.listensOnLoopback = true
      func start(_ servers: [RedisSandbox]) async throws {
        guard servers.count < count else {
          let places = try servers.map { "redis://127.0.0.1:\(try #require($0.nodes[0].port))" }
          return try await body(place, servers, places)
        }
        try await RedisSandbox.withSandbox(options, logger: logger) { try await start(servers + [$0]) }
      }
      try await start([])
    }
  }

  private static func run(
    _ place: ProgramPlace, _ environment: [String: String] = [:], _ arguments: String...
  ) async throws -> ProgramPlace.Said {
    let result = try await runCommand(
      place.program, place.arguments(arguments), environment: environment, workingDirectory: place.folder)
    return ProgramPlace.Said(
      status: result.status, output: String(decoding: result.output, as: UTF8.self), error: result.error)
  }

  @Test("A password that is refused: where it came from, and never the password")
  func passwords() async throws {
    try await Self.with(1) { place, servers, addresses in
      try await servers[0].command("ACL", "SETUSER", "app", "on", ">geheim", "+@all", "~*", "&*")
      let address = addresses[0].replacingOccurrences(of: "//", with: "//app@")
      let variable = try await Self.run(
        place, ["REDISCLI_AUTH": "falsch-eins"], "backup", "--server", address)
      #expect(variable.status == 2 && variable.error.contains("the password in REDISCLI_AUTH"), "\(variable.error)")
      #expect(variable.error.contains("the user, app,") && !variable.error.contains("falsch"), "\(variable.error)")
      let path = place.folder + "/wrong"
      try "falsch-zwei".write(toFile: path, atomically: true, encoding: .utf8)
      chmod(path, 0o600)
      // The file wins.
      let file = try await Self.run(
        place, ["REDISCLI_AUTH": "geheim"], "backup", "--server", address, "--password-file", path)
      #expect(file.status == 2 && file.error.contains("the password file \(path)"), "\(file.error)")
      #expect(!file.error.contains("falsch") && !file.error.contains("geheim"), "\(file.error)")
      // A password, and a default user that has none.
      let surplus = try await Self.run(place, ["REDISCLI_AUTH": "geheim"], "backup", "--server", addresses[0])
      #expect(surplus.status == 2 && surplus.error.contains("name the user in --server"), "\(surplus.error)")
      try await servers[0].command("CONFIG", "SET", "requirepass", "geheim")
      let none = try await Self.run(place, [:], "backup", "--server", addresses[0])
      #expect(none.status == 2 && none.error.contains("--password-file"), "\(none.error)")
      let keys = try await Self.run(place, ["REDISCLI_AUTH": "geheim"], "backup", "--server", address)
      #expect(keys.status == 0, "\(keys.error)")
      // The sandbox goes on without.
      let open = try await runCommand(
        servers[0].installation.path("redis-cli"),
        ["-u", addresses[0], "--no-auth-warning", "-a", "geheim", "CONFIG", "SET", "requirepass", ""])
      #expect(open.status == 0)
    }
  }

  @Test("A replica takes no keys: its master is named")
  func replicas() async throws {
    try await Self.with(2) { place, servers, addresses in
      try await servers[0].command("SET", "a", "1")
      try #require(try await place.run("backup", "--server", addresses[0]).status == 0)
      let port = try #require(servers[0].nodes[0].port)
      try await servers[1].command("REPLICAOF", "127.0.0.1", "\(port)")
      try await eventually("the replica to be in sync") {
        RedisInfo(try await servers[1].command("INFO", "replication").text ?? "")["master_link_status"] == "up"
      }
      let keys = try await place.run("restore-keys", "--server", addresses[1], "--replace")
      #expect(keys.status == 2 && keys.error.contains("restore into its master, 127.0.0.1:\(port)"), "\(keys.error)")
      let online = try await place.run("restore", "--online", "--server", addresses[1], "--replace")
      #expect(online.status == 2 && online.error.contains("its role is slave of 127.0.0.1:\(port)"), "\(online.error)")
    }
  }

  @Test("How far the log is behind, by --most-behind; how far each backup can be brought; an offset of two histories")
  func reach() async throws {
    try await Self.with(2) { place, servers, addresses in
      var lengths: [Int] = []
      for (server, address) in zip(servers, addresses) {
        let receiver = try ChildProcess(
          place.program, place.arguments(["receive", "--server", address, "--partial-interval", "0.05"]),
          output: place.folder + "/receive-\(lengths.count).log")
        try await eventually("the snapshot") { receiver.said.contains("committed") }
        try await server.command("SET", "a", String(repeating: "x", count: 1000 * (lengths.count + 1)))
        let stored = lengths.count
        try await eventually("the change to be stored") {
          let segments = try place.files("aof/").filter { $0.hasSuffix(".zst") && !$0.contains("/head-") }
          return Set(segments.compactMap { $0.split(separator: "/").dropLast().last }).count > stored
        }
        receiver.signal(SIGTERM)
        #expect(try await receiver.wait() == 0, "\(receiver.said)")
        lengths.append(1000)
      }
      let listed = try await place.run("list")
      let rows = listed.output.split(separator: "\n").filter { $0.contains(" offset ") }
      #expect(rows.count == 2, "\(listed.output)")
      for row in rows {
        #expect(try #/ offset \d+ to \d+, 20\d\d-\d\d-\d\dT/#.firstMatch(in: String(row)) != nil, "\(row)")
      }
      let two = try await place.run(
        "restore-file", "--to", place.folder + "/data", "--append-only", "yes", "--target-offset", "800")
      #expect(two.status == 2 && two.error.contains("target-ambiguous"), "\(two.error)")
      #expect(two.error.contains("<history>:800"), "\(two.error)")

      // Something follows the server, and it is not the receiver.
      let port = try #require(servers[0].nodes[0].port)
      try await servers[1].command("REPLICAOF", "127.0.0.1", "\(port)")
      try await servers[0].command("SET", "b", "2")
      try await eventually("the replica to be in sync") {
        RedisInfo(try await servers[1].command("INFO", "replication").text ?? "")["master_link_status"] == "up"
      }
      let check = ["check", "--no-append-only", "--server", addresses[0], "--most-behind"]
      let patient = try await place.run(check + ["3600"])
      #expect(
        patient.status == 0 && patient.output.contains("passed change-log-lag "), "\(patient.output)\(patient.error)")
      try await Task.sleep(for: .milliseconds(1100))
      let strict = try await place.run(check + ["1"])
      #expect(
        strict.status == 0 && strict.output.contains("warning change-log-lag "), "\(strict.output)\(strict.error)")
      #expect(strict.output.contains("bytes behind the server, the last change was stored "))
      let senseless = try await place.run(check + ["-1"])
      #expect(senseless.status == 64 && senseless.error.contains("--most-behind"), "\(senseless.error)")
    }
  }

  @Test("One end with TLS and the other without, a cluster that is none, a target that is none: said at once, and once")
  func wrongEnds() async throws {
    try await Self.with(1) { place, servers, addresses in
      let begin = ContinuousClock.now
      let secure = try await place.run(
        "backup", "--server", addresses[0].replacingOccurrences(of: "redis:", with: "rediss:"))
      #expect(secure.status == 2 && secure.error.contains("speaks no TLS"), "\(secure.error)")
      var options = RedisSandbox.Options()
      options.tls = true
      try await RedisSandbox.withSandbox(options, logger: Self.logger) { server in
        let address = "redis://127.0.0.1:\(try #require(server.nodes[0].port))"
        let plain = try await place.run("backup", "--server", address)
        #expect(plain.status == 2 && plain.error.contains("speaks TLS only"), "\(plain.error)")
      }
      let took = begin.duration(to: .now)
      #expect(took < .seconds(15), "\(took)")
      let cluster = try await place.run("backup", "--cluster", "--server", addresses[0])
      #expect(cluster.status == 2 && cluster.error.contains("is of no cluster"), "\(cluster.error)")
      for text in ["nonsense", "-5", "abc:5"] {
        let target = try await place.run(
          "restore", "--online", "--server", addresses[0], "--target-offset=\(text)")
        #expect(target.status == 64 && target.error.contains("is no position of Redis"), "\(target.error)")
      }
      let receiver = try ChildProcess(
        place.program, place.arguments(["receive", "--server", addresses[0]]), output: place.folder + "/receive.log")
      try await eventually("the snapshot") { receiver.said.contains("committed") }
      let second = try await place.run(
        "receive", "--server", addresses[0], "--lease-seconds", "1", "--patience", "0")
      #expect(second.status == 2, "\(second.error)")
      #expect(second.error.components(separatedBy: "another receiver stores").count == 2, "\(second.error)")
      receiver.signal(SIGTERM)
      #expect(try await receiver.wait() == 0, "\(receiver.said)")
      try await servers[0].command("CONFIG", "SET", "appendonly", "yes")
      let rewritten = try await place.run("rewrite-aof", "--server", addresses[0], "--limit", "60")
      #expect(rewritten.status == 0, "\(rewritten.error)")
    }
  }

  @Test("What cannot be looked at keeps check from nothing else: exit code 2, or 1 if something is wrong")
  func checksWhatItCan() async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      let identity = AgeIdentity.generate()
      let recipient = try #require(identity.recipient)
      try place.configure(component: "redis/test", fields: ", \"recipients\": [\"\(recipient)\"]")
      try #require(try await place.run("init").status == 0)
      try await RedisSandbox.withSandbox(
        RedisSandbox.Options(settings: ["repl-diskless-sync-delay": "0"]), logger: Self.logger
      ) { server in
        guard case .unix(let socket) = server.settings.address else { return }
        try await server.command("SET", "a", "1")
        let backup = try await place.run("backup", "--server", "unix://\(socket)")
        #expect(backup.status == 0, "\(backup.error)")
        let closed = try await place.run("check", "--no-append-only", "--server", "unix://\(socket)")
        #expect(closed.status == 2 && closed.error.contains("no identity was given"), "\(closed.error)")
        #expect(closed.output.contains("artifact-present") && closed.output.contains("change-log-reach"))
        let away = try await place.run("check", "--server", "unix:///nowhere")
        #expect(away.status == 2 && away.output.contains("artifact-present"), "\(away.output)\(away.error)")
        // Something is wrong as well.
        let file = try #require(try place.files("dump.rdb").first)
        try FileManager.default.removeItem(atPath: file)
        let wrong = try await place.run("check", "--server", "unix:///nowhere")
        #expect(wrong.status == 1 && wrong.output.contains("failure artifact-present"), "\(wrong.output)\(wrong.error)")
      }
    }
  }
}
