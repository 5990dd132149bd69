import DRCore
import DRRedis
import DRTestSupport
import Foundation
import Logging
import Testing

/// Each command of `dr-redis` as a user with exactly the rights that README.md names for it.
@Suite(.serialized) struct RedisRightsTests {
  private static let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
  private static let password = "geheim-\(UUID().uuidString)"

  private static func with(
    _ options: RedisSandbox.Options = RedisSandbox.Options(), _ body: (RedisSandbox) async throws -> Void
  ) async throws {
    var options = options
    options.listensOnLoopback = true
    options.settings["repl-diskless-sync-delay"] = "0"
    try await RedisSandbox.withSandbox(options, logger: logger, body)
  }

  /// Runs a command as a user who has these rights and no others.
  private static func run(
    _ place: ProgramPlace, _ server: RedisSandbox, rights: [String], _ arguments: String...
  ) async throws -> ProgramPlace.Said {
    for node in server.nodes {
      _ = try await RedisConnection.withConnection(node.settings, logger: logger) { connection in
        try await connection.command(["ACL", "SETUSER", "someone", "reset", "on", ">\(password)"] + rights)
      }
    }
    let port = try #require(server.nodes[0].port)
    let all = arguments + ["--server", "redis://someone@127.0.0.1:\(port)"]
    let result = try await runCommand(
      place.program, arguments[0] == "rewrite-aof" ? all : place.arguments(all),
      environment: ["REDISCLI_AUTH": password], workingDirectory: place.folder)
    let output = String(decoding: result.output, as: UTF8.self)
    #expect(!result.error.contains(password) && !output.contains(password))
    return ProgramPlace.Said(status: result.status, output: output, error: result.error)
  }

  @Test("Backup, receive, check and each restore do with the rights that are named for them")
  func each() async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      try #require(try await place.run("init").status == 0)
      try await Self.with(RedisSandbox.Options(appendOnly: true)) { server in
        try await server.command("SET", "session:1", "alice")
        try await server.command("SET", "elsewhere", "bob", database: 3)
        try await server.command(
          "FUNCTION", "LOAD", "#!lua name=testing\nredis.register_function('answer', function() return 42 end)")
        let least = ["+psync", "+replconf", "+ping"]
        let few = try await Self.run(place, server, rights: least, "backup")
        #expect(few.status == 0 && few.output.contains("left out: "), "\(few.error)\(few.output)")
        let more = try await Self.run(
          place, server, rights: least + ["+info", "+config|get", "+acl|list"], "backup", "--cadence", "daily")
        // The users, for this repository is not encrypted.
        let omissions = more.output.split(separator: "\n").filter { $0.hasPrefix("left out: ") }
        #expect(more.status == 0 && omissions.count == 1, "\(more.error)\(more.output)")
        let checked = try await Self.run(
          place, server, rights: ["+info", "+config|get"], "check")
        #expect(checked.status == 0 && !checked.output.contains("NOPERM"), "\(checked.error)\(checked.output)")
        let rewritten = try await Self.run(place, server, rights: ["+bgrewriteaof", "+info"], "rewrite-aof")
        #expect(rewritten.status == 0, "\(rewritten.error)")
      }
      let online = ["+replicaof", "+info", "+ping", "+config|get", "+bgsave"]
      for appendOnly in [false, true] {
        try await Self.with(RedisSandbox.Options(appendOnly: appendOnly)) { target in
          let rights = online + (appendOnly ? ["+bgrewriteaof"] : [])
          let restored = try await Self.run(place, target, rights: rights, "restore", "--online")
          #expect(restored.status == 0, "\(restored.error)")
          #expect(try await target.command("GET", "session:1").text == "alice")
          let replaced = try await Self.run(
            place, target,
            rights: rights + ["+config|set", "+psync", "+replconf", "+client|pause", "+client|unpause"], "restore",
            "--online", "--replace")
          #expect(replaced.status == 0 && replaced.output.contains("kept: "), "\(replaced.error)")
        }
      }
      try await Self.with { target in
        let some = try await Self.run(place, target, rights: ["+restore", "~session:*"], "restore-keys", "session:*")
        #expect(some.status == 0, "\(some.error)")
        let all = try await Self.run(
          place, target, rights: ["+restore", "+select", "+function|restore", "~*"], "restore-keys", "--functions")
        #expect(
          all.status == 0 && all.output.contains("1 of 2 keys restored, 1 were there"), "\(all.error)\(all.output)")
        #expect(try await target.command("GET", "elsewhere", database: 3).text == "bob")
        let lacking = try await Self.run(place, target, rights: ["+restore", "~*"], "restore-keys", "--replace")
        #expect(lacking.status == 2 && lacking.error.contains("give this user +select"), "\(lacking.error)")
      }
    }
  }

  @Test("receive follows and goes on with three rights")
  func receive() async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      try #require(try await place.run("init").status == 0)
      try await Self.with { server in
        try await server.command(
          "ACL", "SETUSER", "follower", "on", ">\(Self.password)", "+psync", "+replconf", "+ping")
        let port = try #require(server.nodes[0].port)
        for said in ["committed at offset", "goes on after offset"] {
          let receiver = try ChildProcess(
            place.program, place.arguments(["receive", "--server", "redis://follower@127.0.0.1:\(port)"]),
            environment: ["REDISCLI_AUTH": Self.password], output: place.folder + "/receive.log")
          try await eventually("it to say '\(said)': \(receiver.said)") { receiver.said.contains(said) }
          try await server.command("SET", "key", said)
          receiver.signal(SIGTERM)
          #expect(try await receiver.wait() == 0, "\(receiver.said)")
          #expect(!receiver.said.contains("GAP"), "\(receiver.said)")
        }
      }
    }
  }

  @Test(
    "A cluster's backup, and its keys, with the rights that are named for them; the changes that keys leave out are said"
  )
  func cluster() async throws {
    try await ProgramPlace.with("dr-redis", component: "redis/test") { place in
      try #require(try await place.run("init").status == 0)
      var options = RedisSandbox.Options(settings: ["repl-diskless-sync-delay": "0"])
      options.clusterNodes = 3
      try await RedisSandbox.withSandbox(options, logger: Self.logger) { cluster in
        let script = "for i = 1, 2000 do redis.call('SET', '{a}' .. i, string.rep(i .. ' ', 200)) end"
        let slot = Int(try await cluster.command("CLUSTER", "KEYSLOT", "a").integer ?? 0)
        let node = (0..<3).first { slot < ($0 + 1) * 16384 / 3 } ?? 2
        try await cluster.command("EVAL", script, "1", "{a}", node: node)
        let writing = Task {
          var number = 0
          while !Task.isCancelled {
            try await cluster.command("SET", "{a}\(number % 2000 + 1)", "new", node: node)
            number += 1
          }
        }
        let rights = [
          "+psync", "+replconf", "+ping", "+info", "+cluster|nodes", "+cluster|info", "+client|pause",
          "+client|unpause",
        ]
        let taken = try await Self.run(place, cluster, rights: rights, "backup", "--cluster")
        writing.cancel()
        _ = await writing.result
        #expect(taken.status == 0, "\(taken.error)")
        let keys = try await Self.run(
          place, cluster, rights: ["+restore", "+cluster|nodes", "~*"], "restore-keys", "--replace")
        #expect(keys.status == 0 && keys.output.contains("2000 of 2000 keys restored"), "\(keys.error)\(keys.output)")
        #expect(
          keys.error.contains("warning: each key is as it was when its shard's data set was taken"), "\(keys.error)")
        #expect(keys.error.contains(" of shard ") && keys.error.contains("restore-file --shard brings them"))
      }
    }
  }
}
