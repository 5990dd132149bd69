import DRCore
import Foundation
import Logging

/// What a server must be for a data set to be loaded into it by replication, asked before anything is touched.
///
/// A target that turns out wrong in the middle may have lost its old data and not have the new: an RDB file of a later
/// version empties it, a database too many ends its process, and memory that is too small evicts what was just restored.
struct RedisTargetPreflight: Sendable {
  var findings: [Finding] = []
  var info = RedisInfo("")
  /// Keys that are there.
  var keys: Int64 = 0
  var isAppendOnly: Bool { info["aof_enabled"] == "1" }

  private let subject: String

  /// - Throws: ``DRError`` if the server cannot be asked.
  static func look(
    at settings: RedisConnectionSettings, for summary: RDBSummary, usedMemory: Int64?, allowsReplicas: Bool,
    logger: Logger
  ) async throws -> RedisTargetPreflight {
    try await RedisConnection.withConnection(settings, logger: logger) { connection in
      var preflight = RedisTargetPreflight(subject: "\(settings)")
      preflight.info = RedisInfo(try await connection.command("INFO", "everything").text ?? "")
      preflight.keys = preflight.info.keysByDatabase.values.reduce(0, +)
      preflight.judgeInfo(summary, usedMemory: usedMemory, allowsReplicas: allowsReplicas)
      try await preflight.judgeDatabases(connection, summary)
      try await preflight.judgeModules(connection, summary)
      try await preflight.judgeSurroundings(connection)
      return preflight
    }
  }

  private init(subject: String) { self.subject = subject }

  /// What is in the way, all of it.
  var obstacle: DRError? {
    let failures = findings.filter { $0.severity == .failure }
    guard !failures.isEmpty else { return nil }
    return DRError(
      .invalidConfiguration,
      "the target cannot take this backup: \(failures.map(\.evidence).joined(separator: "; ")); nothing was touched",
      advice: failures.compactMap(\.advice).joined(separator: "; "), object: subject)
  }

  private mutating func add(_ check: String, _ good: Bool, _ evidence: String, _ advice: String) {
    findings.append(
      Finding(
        "target-\(check)", good ? .passed : .failure, subject: subject, evidence: evidence, advice: good ? nil : advice)
    )
  }

  private mutating func judgeInfo(_ summary: RDBSummary, usedMemory: Int64?, allowsReplicas: Bool) {
    add("loaded", info["loading"] == "0", "loading is \(info["loading"] ?? "unknown")", "wait until it has loaded")
    add(
      "standalone", info["redis_mode"] == "standalone", "its mode is \(info["redis_mode"] ?? "unknown")",
      "restore a cluster by file or key by key: its nodes refuse REPLICAOF")
    add(
      "master", info["role"] == "master",
      "its role is \(info["role"] ?? "unknown")"
        + (info["master_host"].map { " of \($0):\(info["master_port"] ?? "?")" } ?? ""),
      "restore into the master, or make this one a master with REPLICAOF NO ONE")
    let replicas = info.integer("connected_slaves") ?? 0
    add(
      "replicas", replicas == 0 || allowsReplicas,
      "\(replicas) replica\(replicas == 1 ? " follows it, and would" : "s follow it, and would") take the restored data",
      "detach them with REPLICAOF NO ONE; dr-redis receive counts as one: stop it, and start it again afterwards, when it takes a new snapshot"
    )
    let newest = RedisVersions.newestRDB(of: info)
    add(
      "version", summary.version <= newest,
      "the data set has RDB version \(summary.version), and Redis \(info["redis_version"] ?? "unknown") reads up to \(newest)",
      "restore into a server at least as new as the one that was backed up")
    let limit = info.integer("maxmemory") ?? 0
    let needed = usedMemory ?? summary.aux["used-mem"].flatMap { Int64($0) } ?? 0
    add(
      "memory", limit == 0 || needed <= limit,
      "the data set took \(needed) bytes of memory, and maxmemory is \(limit) with \(info["maxmemory_policy"] ?? "?")",
      "raise maxmemory: keys would be evicted, or writes refused")
    let fork = info.integer("rdb_bgsave_in_progress") ?? 0
    add("quiet", fork == 0, "a BGSAVE is \(fork == 0 ? "not " : "")in progress", "wait until it has ended")
  }

  private mutating func judgeDatabases(_ connection: RedisConnection, _ summary: RDBSummary) async throws {
    let highest = summary.keysPerDatabase.keys.max() ?? 0
    let answer = try await connection.send(["CONFIG", "GET", "databases"])
    let allowed = answer.textPairs["databases"].flatMap { Int($0) }
    guard let allowed else {
      // Without the right to ask, it is tried.
      let tried = try await connection.send(["SELECT", "\(highest)"])
      if highest > 0 { _ = try await connection.send(["SELECT", "0"]) }
      add(
        "databases", highest == 0 || tried.isOK, "database \(highest) is needed",
        "let this user do +config|get, or +select, and set 'databases' to more than \(highest)")
      return
    }
    add(
      "databases", highest < allowed, "database \(highest) is needed, and there are \(allowed)",
      "set 'databases' to more than \(highest): the server would end when it met it")
  }

  private mutating func judgeModules(_ connection: RedisConnection, _ summary: RDBSummary) async throws {
    guard !summary.moduleNames.isEmpty else { return }
    let loaded = try await connection.send(["MODULE", "LIST"]).elements ?? []
    add(
      "modules", !loaded.isEmpty,
      "the data set holds values of \(summary.moduleNames.joined(separator: ", ")), and \(loaded.count) modules are loaded",
      "load the modules of the server that was backed up")
  }

  private mutating func judgeSurroundings(_ connection: RedisConnection) async throws {
    let watched = try await connection.send(["PUBSUB", "NUMSUB", "__sentinel__:hello"])
    let sentinels = watched.elements?.last?.integer ?? 0
    add(
      "sentinel", sentinels == 0, "\(sentinels) Sentinels watch it, and would make it a replica again or fail it over",
      "SENTINEL REMOVE it, restore, and add it again")
    let replication = try await connection.send(["CONFIG", "GET", "tls-replication"]).textPairs["tls-replication"]
    add(
      "tls", replication != "yes", "tls-replication is \(replication ?? "not known")",
      "set tls-replication no for the restore: the data set is served on the address that you choose, without TLS")
    let user = try await connection.send(["ACL", "WHOAMI"]).text
    let rehearsal = try await connection.send(["ACL", "DRYRUN", user ?? "default", "REPLICAOF", "NO", "ONE"])
    // Only a server from 7.0 on can be asked, and only by who may.
    if case .bulk(let denied) = rehearsal {
      add(
        "rights", false, "this user may not REPLICAOF: \(String(buffer: denied).prefix(100))",
        "ACL SETUSER … +replicaof +info +ping")
    } else {
      add("rights", true, "REPLICAOF is allowed, or cannot be asked for", "")
    }
  }
}
