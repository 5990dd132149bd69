import DRCore
import Foundation
public import Logging

/// Asks Sentinels who the master is.
public struct RedisSentinel: Sendable {
  /// Any of them; they are asked in turn.
  public var sentinels: [RedisConnectionSettings]
  /// The name by which they know the master.
  public var masterName: String

  public init(sentinels: [RedisConnectionSettings], masterName: String) {
    self.sentinels = sentinels
    self.masterName = masterName
  }

  /// The master now, reached as given but for the address; it has been asked whether it is one, if the user may `ROLE`.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` if no Sentinel knows one, or if what it names is none (any more).
  public func master(_ settings: RedisConnectionSettings, logger: Logger) async throws -> RedisConnectionSettings {
    var last: (any Error)?
    for sentinel in sentinels {
      do {
        let answer = try await RedisConnection.withConnection(sentinel, logger: logger) {
          try await $0.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName)
        }
        guard let words = answer.elements, words.count == 2, let host = words[0].text, let port = words[1].integer
        else {
          continue
        }
        let master = settings.with(host: host, port: Int(port))
        let role = try await RedisConnection.withConnection(master, logger: logger) { try await $0.send(["ROLE"]) }
        if case .error(let refused) = role, refused.kind == "NOPERM" { return master }
        // In the middle of a failover a Sentinel may still name the old one.
        if role.elements?.first?.text == "master" { return master }
      } catch let error as DRError {
        last = error
      }
    }
    throw DRError(
      .sourceFailed, "no Sentinel names a master '\(masterName)' that is one", advice: "wait for the failover to end",
      cause: last)
  }
}
