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
    var obstacles: [Obstacle] = []
    for sentinel in sentinels {
      let place: (host: String, port: Int)?
      do {
        place = try await RedisConnection.withConnection(sentinel, logger: logger) { try await named(on: $0) }
      } catch let error as DRError {
        obstacles.append(.sentinel(error))
        continue
      }
      guard let place else {
        obstacles.append(.name)
        continue
      }
      let master = settings.with(host: place.host, port: place.port)
      do {
        let role = try await RedisConnection.withConnection(master, logger: logger) { try await $0.send(["ROLE"]) }
        if case .error(let refused) = role {
          if refused.kind == "NOPERM" { return master }
          obstacles.append(
            .master(
              DRError(
                .sourceFailed, "the server at \(master) refused ROLE", advice: master.advice(for: refused),
                cause: refused)))
          continue
        }
        // In the middle of a failover a Sentinel may still name the old one.
        if role.elements?.first?.text == "master" { return master }
        obstacles.append(.role("\(master)"))
      } catch let error as DRError {
        obstacles.append(.master(error))
      }
    }
    throw failure(obstacles)
  }

  /// Waits until the Sentinels name another master that is one: the former may go on answering for a while after a failover.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` then; `CancellationError`.
  func watch(_ current: RedisConnectionSettings, every interval: Duration, logger: Logger) async throws {
    while true {
      try await Task.sleep(for: interval)
      guard await names(anotherThan: current, logger),
        let master = try? await master(current, logger: logger), master.address != current.address
      else { continue }
      throw DRError(
        .sourceFailed,
        "there was a failover: the Sentinels name \(master.address) as the master, no longer \(current.address)",
        advice: "none is needed: the change log goes on there")
    }
  }

  private func names(anotherThan current: RedisConnectionSettings, _ logger: Logger) async -> Bool {
    await withTaskGroup(of: Bool.self) { group in
      for sentinel in sentinels {
        group.addTask {
          let named = try? await RedisConnection.withConnection(sentinel, logger: logger) {
            try await self.named(on: $0)
          }
          return named.map { current.with(host: $0.host, port: $0.port).address != current.address } ?? false
        }
      }
      for await isAnother in group where isAnother {
        group.cancelAll()
        return true
      }
      return false
    }
  }

  private func named(on connection: RedisConnection) async throws -> (host: String, port: Int)? {
    let answer = try await connection.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName)
    guard let words = answer.elements, words.count == 2, let host = words[0].text, let port = words[1].integer else {
      return nil
    }
    return (host, Int(port))
  }

  /// Why a Sentinel led to no master.
  private enum Obstacle {
    case sentinel(DRError)
    case name
    case role(String)
    case master(DRError)

    /// How far it led.
    var progress: Int {
      switch self {
      case .sentinel(let error): error.redisError == nil ? 0 : 1
      case .name: 2
      case .master: 3
      case .role: 4
      }
    }
  }

  private func failure(_ obstacles: [Obstacle]) -> DRError {
    let what = "no Sentinel names a master '\(masterName)' that is one"
    switch obstacles.max(by: { $0.progress < $1.progress }) {
    case nil: return DRError(.invalidConfiguration, "no Sentinel is named", advice: "name one: host:port")
    case .name:
      return DRError(
        .sourceFailed, "\(what): they know no master of that name",
        advice: "see --master-name; SENTINEL MASTERS lists the names that a Sentinel knows")
    case .role(let server):
      return DRError(.sourceFailed, "\(what): \(server) is a replica", advice: "wait for the failover to end")
    // It was reached, and does not take this user: no other Sentinel can help.
    case .master(let error) where error.redisError != nil: return error
    case .master(let error):
      return DRError(
        .sourceFailed, what,
        advice:
          "wait for the failover to end, if there is one; see whether this host can reach the address that they name",
        cause: error)
    case .sentinel(var error):
      // The server's password is another one.
      switch error.redisError?.kind {
      case "NOAUTH":
        error.advice =
          "the Sentinel wants a password: name a file with it (--sentinel-password-file), or set REDIS_SENTINEL_AUTH"
      case "NOPERM": error.advice = "give the Sentinel's user +sentinel|get-master-addr-by-name"
      case nil: error.advice = "see whether one of the Sentinels runs and can be reached (--sentinel)"
      default: break
      }
      return DRError(.sourceFailed, what, cause: error)
    }
  }
}
