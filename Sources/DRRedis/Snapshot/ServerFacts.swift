import DRCore
import Foundation
import Logging
import NIOCore

/// What a server says about itself beside its data, as far as the user may ask.
struct ServerFacts: Sendable {
  var version: String?
  var properties: [String: JSONValue] = [:]
  /// `ACL LIST`, a line for each user: with hashes of passwords.
  var users: ByteBuffer?
  /// JSON: the settings that a server needs to hold this data set.
  var configuration: ByteBuffer?
  var leftOut: [BackupManifest.Omission] = []

  /// Settings that matter for a restore. None is a secret.
  static let settings: [String] = [
    "databases", "maxmemory", "maxmemory-policy", "maxmemory-samples", "appendonly", "appendfsync",
    "aof-use-rdb-preamble", "appenddirname", "appendfilename", "auto-aof-rewrite-percentage",
    "auto-aof-rewrite-min-size", "save", "rdbcompression", "rdbchecksum", "dbfilename", "dir", "cluster-enabled",
    "notify-keyspace-events", "lazyfree-lazy-eviction", "lazyfree-lazy-expire", "hash-max-listpack-entries",
    "hash-max-listpack-value", "list-max-listpack-size", "list-compress-depth", "set-max-intset-entries",
    "zset-max-listpack-entries", "zset-max-listpack-value", "stream-node-max-bytes", "stream-node-max-entries",
    "repl-backlog-size", "repl-timeout", "repl-diskless-sync", "client-output-buffer-limit", "timeout",
    "tcp-keepalive", "maxclients", "min-replicas-to-write", "min-replicas-max-lag",
  ]

  /// Asks, on a connection of its own. What the user may not ask is left out.
  ///
  /// - Throws: ``DRError`` if the server cannot be asked anything.
  static func ask(_ settings: RedisConnectionSettings, logger: Logger) async throws -> ServerFacts {
    try await RedisConnection.withConnection(settings, logger: logger) { connection in
      var facts = ServerFacts()
      if let info = RedisInfo.readable(try await connection.send(["INFO"])) {
        facts.version = info["redis_version"]
        if let memory = info.integer("used_memory") { facts.properties["usedMemory"] = .integer(memory) }
        if let mode = info["redis_mode"] { facts.properties["mode"] = .string(mode) }
        if let run = info["run_id"] { facts.properties["runID"] = .string(run) }
      }
      let answers = try await connection.send(["CONFIG", "GET", "*"])
      if case .error = answers {
        facts.leftOut.append(
          BackupManifest.Omission(what: "configuration", reason: "this user may not CONFIG GET"))
      } else {
        let chosen = answers.textPairs.filter { Self.settings.contains($0.key) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        facts.configuration = ByteBuffer(bytes: try encoder.encode(chosen))
      }
      let users = try await connection.send(["ACL", "LIST"])
      if let lines = users.elements {
        facts.users = ByteBuffer(string: lines.compactMap(\.text).map { $0 + "\n" }.joined())
      } else {
        facts.leftOut.append(
          BackupManifest.Omission(
            what: "users and their rights (ACL)", reason: "this user may not ACL LIST, or the server is older than 6"))
      }
      return facts
    }
  }
}

extension RedisInfo {
  /// Nil for an error.
  static func readable(_ answer: RESPValue) -> RedisInfo? {
    guard case .bulk(let bytes) = answer else { return nil }
    return RedisInfo(String(buffer: bytes))
  }
}
