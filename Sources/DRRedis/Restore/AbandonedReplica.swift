import DRCore
import Logging

/// A target that a restore has left, which was killed while the target followed it: a read-only replica of a port of this host
/// at which nobody listens.
struct AbandonedReplica: Sendable {
  let server: RedisConnectionSettings
  /// Whom it follows: host and port.
  let master: String
  let keys: Int64
  let isLoading: Bool
  /// A killed restore may have changed it.
  let loadSetting: String?

  /// Nil for a target that is none.
  ///
  /// - Parameter address: The one at which a restore from here serves.
  /// - Throws: ``DRError`` if the target cannot be asked.
  static func find(
    at server: RedisConnectionSettings, servedFrom address: String, logger: Logger
  ) async throws -> AbandonedReplica? {
    let (info, setting) = try await RedisConnection.withConnection(server, logger: logger) {
      (
        RedisInfo(try await $0.command("INFO", "everything").text ?? ""),
        try await $0.send(["CONFIG", "GET", RedisOnlineRestorer.loadSetting]).textPairs[RedisOnlineRestorer.loadSetting]
      )
    }
    guard info["role"] == "slave", info["master_link_status"] == "down", info["master_host"] == address,
      let port = info.integer("master_port").flatMap({ Int(exactly: $0) })
    else { return nil }
    // A master that is busy takes a connection and closes it at once: only a refusal says that there is none.
    guard await RedisLink.isRefused(host: address, port: port, within: .seconds(3)) else { return nil }
    return AbandonedReplica(
      server: server, master: "\(address):\(port)", keys: info.keysByDatabase.values.reduce(0, +),
      isLoading: info["loading"] != "0", loadSetting: setting)
  }

  private var what: String {
    "the target is a read-only replica of \(master), at which nobody listens: a restore that was killed leaves that"
  }

  /// For who was not told to replace what it holds.
  var refusal: DRError {
    DRError(
      .destinationInUse,
      "\(what). It has \(keys) keys, which may be its former data or a part of the restore's; nothing was touched",
      advice:
        "run the restore again with --replace, which keeps what it holds in a backup; or to keep it as it is, REPLICAOF NO ONE"
        + settingAdvice, object: "\(server)")
  }

  private var settingAdvice: String {
    loadSetting == "on-empty-db"
      ? ". Its repl-diskless-load is on-empty-db: if the killed restore set that, CONFIG SET it back to disabled" : ""
  }

  /// Makes it a master again.
  ///
  /// - Throws: ``DRError``: `destinationInUse` while it loads; `sourceFailed`.
  func release(logger: Logger) async throws {
    guard !isLoading else {
      throw DRError(
        .destinationInUse, "\(what), and it is still loading; nothing was touched",
        advice: "run this again once its INFO says loading:0", object: "\(server)")
    }
    _ = try await RedisConnection.withConnection(server, logger: logger) {
      try await $0.command("REPLICAOF", "NO", "ONE")
    }
    logger.notice("\(what): made a master again\(settingAdvice)")
  }
}
