public import DRCore
import Foundation
public import Logging

/// Does a server's own persistence match the plan? And can it be followed as a replica for long?
public struct RedisPersistenceCheck: Verifier {
  /// What the plan says; nil is not looked at.
  public struct Expectation: Sendable, Hashable {
    public var appendOnly: Bool? = true
    public var appendFsync: String? = "everysec"
    /// In bytes.
    public var maximumMemory: Int64?
    public var evictionPolicy: String?
    /// Replicas that are in sync, at least.
    public var replicas: Int?
    /// How old the last RDB file may be.
    public var saveAge: Duration?

    public init() {}
  }

  public var settings: RedisConnectionSettings
  public var expectation: Expectation

  public init(_ settings: RedisConnectionSettings, expectation: Expectation = Expectation()) {
    self.settings = settings
    self.expectation = expectation
  }

  public func verify(logger: Logger) async throws -> [Finding] {
    try await RedisConnection.withConnection(settings, logger: logger) { connection in
      let info = RedisInfo(try await connection.command("INFO", "everything").text ?? "")
      let answer = try await connection.send(["CONFIG", "GET", "*"])
      var configuration: [String: String]?
      if case .error = answer {} else { configuration = answer.textPairs }
      return judge(info, configuration)
    }
  }

  private func judge(_ info: RedisInfo, _ configuration: [String: String]?) -> [Finding] {
    var findings: [Finding] = []
    func add(_ check: String, _ severity: Finding.Severity, _ evidence: String, _ advice: String) {
      findings.append(
        Finding(
          check, severity, subject: "\(settings)", evidence: evidence, advice: severity == .passed ? nil : advice))
    }
    /// What cannot be asked for is never taken for right.
    func compare(_ setting: String, _ wanted: String?, _ advice: String) {
      guard let wanted else { return }
      guard let found = configuration?[setting] else {
        return add("config-\(setting)", .warning, "could not be asked for", "let this user do +config|get")
      }
      add(
        "config-\(setting)", found == wanted ? .passed : .failure,
        "\(setting) is \(found), and the plan says \(wanted)", advice)
    }
    if let appendOnly = expectation.appendOnly {
      let found = info["aof_enabled"] == "1"
      add(
        "append-only", found == appendOnly ? .passed : .failure,
        "the append-only file is \(found ? "on" : "off"), and the plan says \(appendOnly ? "on" : "off")",
        "CONFIG SET appendonly \(appendOnly ? "yes" : "no"), and in the configuration file")
    }
    compare("appendfsync", expectation.appendOnly == false ? nil : expectation.appendFsync, "CONFIG SET appendfsync")
    compare("maxmemory", expectation.maximumMemory.map { "\($0)" }, "CONFIG SET maxmemory")
    compare("maxmemory-policy", expectation.evictionPolicy, "CONFIG SET maxmemory-policy")
    if info["aof_enabled"] == "1" {
      let good = info["aof_last_write_status"] == "ok" && info["aof_last_bgrewrite_status"] == "ok"
      add(
        "append-only-status", good ? .passed : .failure,
        "last write \(info["aof_last_write_status"] ?? "?"), last rewrite \(info["aof_last_bgrewrite_status"] ?? "?")",
        "see the server's log and its disk")
    }
    add(
      "save-status", info["rdb_last_bgsave_status"] == "ok" ? .passed : .failure,
      "the last BGSAVE was \(info["rdb_last_bgsave_status"] ?? "?")", "see the server's log and its disk")
    if let limit = expectation.saveAge, let saved = info.integer("rdb_last_save_time") {
      let age = Duration.seconds(Int64(Date().timeIntervalSince1970) - saved)
      add("save-age", age <= limit ? .passed : .warning, "the last RDB file is \(age) old", "see 'save', or BGSAVE")
    }
    if let wanted = expectation.replicas {
      let replicas = (0..<(info.integer("connected_slaves") ?? 0)).map { info.parts("slave\($0)") }
      let offset = info.integer("master_repl_offset") ?? 0
      let good = replicas.filter { $0["state"] == "online" && offset - (Int64($0["offset"] ?? "") ?? 0) < 1 << 20 }
      add(
        "replicas", good.count >= wanted ? .passed : .failure,
        "\(good.count) replicas in sync, and the plan says \(wanted)",
        "see the replicas' logs and master_link_status")
    }
    judgeReplication(info, configuration, add)
    return findings
  }

  /// Whether a slow moment of who follows it costs a new snapshot.
  private func judgeReplication(
    _ info: RedisInfo, _ configuration: [String: String]?,
    _ add: (String, Finding.Severity, String, String) -> Void
  ) {
    let backlog = info.integer("repl_backlog_size") ?? 0
    add(
      "backlog", backlog >= 16 << 20 ? .passed : .notice, "repl-backlog-size is \(backlog) bytes",
      "raise it: an interruption of the change log in which more is written costs a new snapshot, and a gap")
    guard let configuration else {
      return add(
        "replication-limits", .notice, "could not be asked for", "let this user do +config|get")
    }
    let timeout = Int(configuration["repl-timeout"] ?? "") ?? 0
    add(
      "repl-timeout", timeout >= 10 ? .passed : .warning, "repl-timeout is \(timeout) s",
      "10 s or more: the change log says every second that it lives")
    let words = (configuration["client-output-buffer-limit"] ?? "").split(separator: " ").map(String.init)
    if let index = words.firstIndex(where: { $0 == "slave" || $0 == "replica" }), index + 3 < words.count {
      let hard = Int64(words[index + 1]) ?? 0
      add(
        "output-buffer", hard == 0 || hard >= 64 << 20 ? .passed : .notice,
        "a replica is dropped when \(words[index + 1]) bytes wait for it, or \(words[index + 2]) for \(words[index + 3]) s",
        "raise it if snapshots are dropped under load: what is written meanwhile waits there")
    }
  }
}

/// The plan's jobs on the server's own files.
public enum RedisMaintenance {
  /// Has the append-only file rewritten, and waits for the result.
  ///
  /// - Throws: ``DRError``: `sourceFailed` if it fails, or if there is none; `timedOut`.
  public static func rewriteAppendOnlyFile(
    _ settings: RedisConnectionSettings, limit: Duration = .seconds(3600), logger: Logger
  ) async throws {
    try await RedisConnection.withConnection(settings, logger: logger) { connection in
      func info() async throws -> RedisInfo {
        RedisInfo(try await connection.command("INFO", "persistence").text ?? "")
      }
      guard try await info()["aof_enabled"] == "1" else {
        throw DRError(
          .sourceFailed, "\(settings) keeps no append-only file", advice: "CONFIG SET appendonly yes")
      }
      // One that runs already began before what was just written: another one follows it.
      let answer = try await connection.send(["BGREWRITEAOF"])
      if case .error(let error) = answer, !error.message.contains("in progress") {
        throw DRError(
          .sourceFailed, "the rewrite of the append-only file was refused",
          advice: error.kind == "NOPERM" ? "give this user +bgrewriteaof" : "see the server's log", cause: error)
      }
      let deadline = ContinuousClock.now + limit
      while true {
        let state = try await info()
        if state["aof_rewrite_in_progress"] == "0", state["aof_rewrite_scheduled"] == "0" {
          guard state["aof_last_bgrewrite_status"] == "ok" else {
            throw DRError(
              .sourceFailed, "the rewrite of the append-only file failed", advice: "see the server's log and its disk")
          }
          return
        }
        guard ContinuousClock.now < deadline else {
          throw DRError(
            .timedOut, "the rewrite of the append-only file took longer than \(limit)",
            advice: "it goes on: see the server's INFO persistence and its disk, and wait for longer")
        }
        try await Task.sleep(for: .milliseconds(50))
      }
    }
  }
}
