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

extension ServerFacts {
  /// Stores the configuration, and the users if they are encrypted. Returns what was left out.
  ///
  /// - Parameter suffix: Of the artifacts' names: `config<suffix>.json` and `acl<suffix>.txt`.
  func write(into writer: any BackupWriter, suffix: String = "") async throws -> [BackupManifest.Omission] {
    var leftOut = leftOut
    if let configuration {
      try await writer.write(
        "config\(suffix).json", ByteStream(configuration), expectedLength: Int64(configuration.readableBytes))
    }
    if let users {
      if writer.encrypts {
        try await writer.write("acl\(suffix).txt", ByteStream(users), expectedLength: Int64(users.readableBytes))
      } else {
        leftOut.append(
          BackupManifest.Omission(
            what: "users and their rights (ACL)",
            reason: "they hold password hashes, and this backup is not encrypted: name a recipient"))
      }
    }
    return leftOut
  }

  /// Refuses a node of a cluster: what it holds is a part of the data, and would pass for all of it. A user who may not
  /// `INFO` cannot be told so.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`; as a connection.
  static func refuseClusterNode(_ settings: RedisConnectionSettings, advice: String, logger: Logger) async throws {
    let answer = try await RedisConnection.withConnection(settings, logger: logger) {
      try await $0.send(["INFO", "server"])
    }
    let mode = RedisInfo.readable(answer)?["redis_mode"]
    guard mode != "sentinel" else {
      throw DRError(
        .invalidConfiguration, "the server at \(settings) is a Sentinel: it holds no data",
        advice: "name it with --sentinel and the master with --master-name (SENTINEL MASTERS lists the names)")
    }
    guard mode == "cluster" else { return }
    throw DRError(
      .invalidConfiguration, "the server at \(settings) is a node of a cluster: it holds a part of the data only",
      advice: advice)
  }
}

extension RedisInfo {
  /// Nil for an error.
  static func readable(_ answer: RESPValue) -> RedisInfo? {
    guard case .bulk(let bytes) = answer else { return nil }
    return RedisInfo(String(buffer: bytes))
  }
}
