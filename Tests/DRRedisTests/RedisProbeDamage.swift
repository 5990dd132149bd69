import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore

/// What is wrong with a server, and the check that must see it.
struct RedisProbeDamage: Sendable {
  enum Look: Sendable { case probes, persistence, harmlessness }
  /// Is done to the server; is given a known key, and its data folder.
  typealias Harm = @Sendable (RedisSandbox, RedisSamples.Key) async throws -> Void

  var name: String
  var look: Look
  var check: String
  /// In what the finding says.
  var subject: String
  var severity: Finding.Severity
  /// What the server answers to `INFO` is another thing: where the harm itself cannot be done to it here.
  var answer: RedisAnswer?
  var settings: [String: String]
  var harm: Harm

  init(
    _ name: String, _ look: Look, _ check: String, sees subject: String, as severity: Finding.Severity = .failure,
    answer: RedisAnswer? = nil, settings: [String: String] = [:], _ harm: @escaping Harm = { _, _ in }
  ) {
    (self.name, self.look, self.check, self.subject) = (name, look, check, subject)
    (self.severity, self.answer, self.settings, self.harm) = (severity, answer, settings, harm)
  }

  init(
    _ name: String, _ check: String, sees subject: String, as severity: Finding.Severity = .failure,
    answer: RedisAnswer? = nil, settings: [String: String] = [:], _ harm: @escaping Harm = { _, _ in }
  ) {
    self.init(name, .probes, check, sees: subject, as: severity, answer: answer, settings: settings, harm)
  }

  private static func config(_ name: String, _ value: String) -> Harm {
    { server, _ in _ = try await server.command("CONFIG", "SET", name, value) }
  }

  /// Nobody may write into its folder: what it saves next fails.
  private static let closedFolder: Harm = { server, _ in
    let folder = server.dataFolder
    for place in [folder, folder + "/appendonlydir"] where FileManager.default.fileExists(atPath: place) {
      guard chown(place, 0, 0) == 0, chmod(place, 0o555) == 0 else {
        throw DRError(.notWritable, "its folder could not be closed", object: place)
      }
    }
  }

  private static func ended(_ server: RedisSandbox, _ what: String) async throws {
    try await RedisFixture.eventually("the \(what) to end") {
      let info = try await RedisFixture.info(server)
      return info["\(what)_in_progress"] == "0" && info["aof_rewrite_scheduled"] == "0"
    }
  }

  static let all: [RedisProbeDamage] = [
    RedisProbeDamage("a replica", "connectivity", sees: "as slave", as: .warning) { server, _ in
      try await server.command("REPLICAOF", "127.0.0.1", "1")
    },
    RedisProbeDamage(
      "a server that loads", "connectivity", sees: "answers", answer: RedisAnswer("loading:0", "loading:1")),

    RedisProbeDamage("a database that is empty", "key-counts", sees: "database 3") { server, _ in
      try await server.command("FLUSHDB", database: 3)
    },
    RedisProbeDamage("a key too many", "key-counts", sees: "database 0") { server, _ in
      try await server.command("SET", "another", "1")
    },
    RedisProbeDamage("a database that was not there", "key-counts", sees: "database 5") { server, _ in
      try await server.command("SET", "another", "1", database: 5)
    },
    RedisProbeDamage("a key less, beside many that may end", "key-counts", sees: "database 0") { server, _ in
      try await server.command("DEL", "numbers")
    },
    RedisProbeDamage("a key that will not end any more", "key-counts", sees: "database 0") { server, _ in
      try await server.command("PERSIST", "session:1")
    },

    RedisProbeDamage("a key of another type", "key-types", sees: "list") { server, _ in
      try await server.command("DEL", "string:1")
      try await server.command("RPUSH", "string:1", "x")
    },
    RedisProbeDamage("a type that is lost, beside many keys that may end", "key-types", sees: "hash") { server, _ in
      for number in 0..<20 { try await server.command("DEL", "hash:\(number)") }
    },

    RedisProbeDamage("a known key with another value", "samples", sees: "1 of") { server, key in
      try await server.command("COPY", "string:7", key.name, "DB", "\(key.database)", "REPLACE")
    },
    RedisProbeDamage("a known key that is gone", "samples", sees: "1 of") { server, key in
      try await server.command("DEL", key.name, database: key.database)
    },
    RedisProbeDamage("a known key that is no hit", "hits", sees: "hits for") { server, key in
      try await server.command("DEL", key.name, database: key.database)
    },

    RedisProbeDamage("keys that were evicted", "memory", sees: "keys evicted") { server, _ in
      try await server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
      try await server.command("CONFIG", "SET", "maxmemory", "1000000")
      // Which makes it keep to that.
      _ = try? await server.command("SET", "another", "1")
      try await server.command("CONFIG", "SET", "maxmemory", "0")
    },
    RedisProbeDamage(
      "more than its limit", "memory", sees: "limit 500000", settings: ["maxmemory-policy": "noeviction"]
    ) {
      server, _ in try await server.command("CONFIG", "SET", "maxmemory", "500000")
    },
    RedisProbeDamage("much more than the source had", "memory", sees: "bytes in use", as: .warning) { server, _ in
      try await server.command("SETRANGE", "string:1", "50000000", "x")
    },

    RedisProbeDamage("a rewrite that failed", "persistence", sees: "the last rewrite failed") { server, key in
      try await closedFolder(server, key)
      // Refused, or begun and failed: both are known to it.
      _ = try? await server.command("BGREWRITEAOF")
      try await ended(server, "aof_rewrite")
    },
    RedisProbeDamage("a save that failed", "persistence", sees: "the last BGSAVE failed") { server, key in
      try await closedFolder(server, key)
      try await server.command("BGSAVE")
      try await ended(server, "rdb_bgsave")
    },
    RedisProbeDamage(
      "a write that failed", "persistence", sees: "the last write",
      answer: RedisAnswer("aof_last_write_status:ok", "aof_last_write_status:err")),
    RedisProbeDamage(
      "a rewrite that goes on", "persistence", sees: "in progress",
      answer: RedisAnswer("aof_rewrite_in_progress:0", "aof_rewrite_in_progress:1")),

    RedisProbeDamage("no append-only file", .persistence, "append-only", sees: "off", config("appendonly", "no")),
    RedisProbeDamage("another sync", .persistence, "config-appendfsync", sees: "is no", config("appendfsync", "no")),
    RedisProbeDamage(
      "another limit", .persistence, "config-maxmemory", sees: "is 1", config("maxmemory", "1073741824")),
    RedisProbeDamage(
      "another policy", .persistence, "config-maxmemory-policy", sees: "noeviction",
      config("maxmemory-policy", "noeviction")),
    RedisProbeDamage("a rewrite that failed", .persistence, "append-only-status", sees: "last rewrite err") {
      server, key in
      try await closedFolder(server, key)
      // Refused, or begun and failed: both are known to it.
      _ = try? await server.command("BGREWRITEAOF")
      try await ended(server, "aof_rewrite")
    },
    RedisProbeDamage("a save that failed", .persistence, "save-status", sees: "was err") { server, key in
      try await closedFolder(server, key)
      try await server.command("BGSAVE")
      try await ended(server, "rdb_bgsave")
    },
    RedisProbeDamage(
      "a save of long ago", .persistence, "save-age", sees: "old", as: .warning,
      answer: RedisAnswer("rdb_last_save_time:1", "rdb_last_save_time:")),
    RedisProbeDamage("no replica", .persistence, "replicas", sees: "0 replicas"),
    RedisProbeDamage(
      "a short backlog", .persistence, "backlog", sees: "1048576", as: .notice, config("repl-backlog-size", "1mb")),
    RedisProbeDamage(
      "little patience", .persistence, "repl-timeout", sees: "is 5 s", as: .warning, config("repl-timeout", "5")),
    RedisProbeDamage(
      "a small buffer", .persistence, "output-buffer", sees: "1048576 bytes", as: .notice,
      config("client-output-buffer-limit", "replica 1mb 1mb 60")),

    RedisProbeDamage("one that follows", .harmlessness, "harmless-role", sees: "127.0.0.1") { server, _ in
      try await server.command("REPLICAOF", "127.0.0.1", "1")
    },
    RedisProbeDamage(
      "one that is open", .harmlessness, "harmless-address", sees: "0.0.0.0", settings: ["bind": "0.0.0.0"]),
  ]
}

/// Another answer to `INFO`: the rest of each line that begins so.
struct RedisAnswer: Sendable, Hashable {
  var from: String
  var to: String

  /// - Parameter from: The begin of a line. What follows in the line stays.
  init(_ from: String, _ to: String) { (self.from, self.to) = (from, to) }

  /// Changes what a server answers to `INFO` on its way.
  static func filter(_ answers: @escaping @Sendable () -> [RedisAnswer], _ count: MutableBox<Int>)
    -> SocketRelay.Filter
  {
    { pending in
      // A bulk string may begin anywhere in what arrives, but INFO is asked for by itself.
      guard pending.getInteger(at: pending.readerIndex, as: UInt8.self) == UInt8(ascii: "$") else {
        return SocketRelay.unchanged(&pending)
      }
      let view = pending.readableBytesView
      guard let end = view.firstIndex(of: 13) else { return ByteBuffer() }
      guard let length = Int(String(decoding: view[..<end].dropFirst(), as: UTF8.self)), length >= 0 else {
        return SocketRelay.unchanged(&pending)
      }
      guard view.count >= end - view.startIndex + 2 + length + 2 else { return ByteBuffer() }
      let start = end + 2
      // For Swift, "\r\n" is one character, in which no "\n" is found.
      var text = String(decoding: view[start..<(start + length)].filter { $0 != 13 }, as: UTF8.self)
      guard text.contains("redis_version:") || text.contains("# Replication") else {
        return SocketRelay.unchanged(&pending)
      }
      for answer in answers() where text.contains("\n\(answer.from)") {
        text = text.replacing("\n\(answer.from)", with: "\n\(answer.to)")
        count.withLock { $0 += 1 }
      }
      pending.moveReaderIndex(forwardBy: start - view.startIndex + length + 2)
      var changed = ByteBuffer(string: "$\(text.utf8.count)\r\n\(text)\r\n")
      changed.writeImmutableBuffer(SocketRelay.unchanged(&pending))
      return changed
    }
  }
}
