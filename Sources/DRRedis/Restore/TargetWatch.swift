import DRCore
import Logging

/// Looks at a target while it is waited for: says how far it is, and ends the wait once it gives no sign of life any more.
struct TargetWatch: Sendable {
  let server: RedisConnectionSettings
  /// How long there may be no sign of life.
  let silenceLimit: Duration
  let meter: ProgressMeter?
  let logger: Logger

  /// Runs the wait with the look beside it.
  ///
  /// - Parameters:
  ///   - what: What the target is to do, for people.
  ///   - sign: Grows while the target is at work.
  /// - Throws: What the wait throws; ``DRError`` with `timedOut` after too long a silence.
  func during(
    _ what: String, sign: @escaping @Sendable () -> Int64, _ wait: @escaping @Sendable () async throws -> Void
  ) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await wait() }
      group.addTask { try await look(what, sign) }
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  private func look(_ what: String, _ sign: @Sendable () -> Int64) async throws {
    var (lastSign, loaded): (Int64, String?) = (sign(), nil)
    var last = ContinuousClock.now
    while true {
      // What is over soon needs no words.
      try await Task.sleep(for: .milliseconds(500))
      let info = await persistence()
      try Task.checkCancellation()
      let newLoaded = info.map { "\($0["loading"] ?? "") \($0["loading_loaded_bytes"] ?? "")" } ?? loaded
      if sign() != lastSign || newLoaded != loaded { last = .now }
      (lastSign, loaded) = (sign(), newLoaded)
      let silence = last.duration(to: .now)
      var words = "the target to \(what)"
      if let part = info?["loading_loaded_perc"], info?["loading"] == "1" {
        words += " (\(part.split(separator: ".").first ?? "0") %)"
      }
      if silence > .seconds(5) { words += ", no sign of life for \(silence.components.seconds) s" }
      meter?.wait(for: words)
      guard silence < silenceLimit else {
        throw DRError(
          .timedOut, "the target has given no sign of life for \(silenceLimit) while it was to \(what)",
          advice: "see whether its process is stopped, or its disk stands still; --silence-limit says how long to wait",
          object: "\(server)")
      }
    }
  }

  private func persistence() async -> RedisInfo? {
    var settings = server
    settings.connectTimeout = min(.seconds(3), silenceLimit)
    settings.timeLimit = settings.connectTimeout
    let answer = try? await RedisConnection.withConnection(settings, logger: logger) {
      try await $0.send(["INFO", "persistence"])
    }
    return answer.flatMap { RedisInfo.readable($0) }
  }
}
