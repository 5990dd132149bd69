import DRCore

/// How many messages consumers hold without an acknowledgement: what no dump can see.
///
/// Only the broker's statistics tell, and they are some seconds old: a queue tells its node every five seconds, and every five
/// seconds the management API gathers what was told. What the queue itself says, how many messages are ready and how many consumers it
/// has, shows where they are.
package struct HeldMessages: Hashable, Sendable {
  package var count: Int64
  /// Whether the statistics were seen to be of after the capture began. If not, there may be more, and some may be acknowledged.
  package var isCurrent: Bool

  package init(_ count: Int64, isCurrent: Bool) {
    self.count = count
    self.isCurrent = isCurrent
  }

  /// After so long statistics are of after the wait began.
  static let lag = Duration.seconds(11)

  /// What the statistics say, once they can be believed. Pure.
  ///
  /// - Parameters:
  ///   - ready: As the queue itself says, now.
  ///   - consumers: The same.
  ///   - told: By the statistics.
  ///   - isSettled: Whether these are of after the capture began.
  /// - Returns: Nil: wait, and ask again.
  package static func judge(ready: Int64, consumers: Int64, told: RabbitMQQueue, isSettled: Bool) -> HeldMessages? {
    let all = told.ready + told.unacknowledged
    if told.ready == ready, isSettled || (consumers == 0 && told.unacknowledged == 0) {
      return HeldMessages(told.unacknowledged, isCurrent: true)
    }
    // Nobody consumes, and everything that they know of is ready: what they call held was given back since, as by a dump before.
    if consumers == 0, ready >= all { return HeldMessages(0, isCurrent: true) }
    guard isSettled else { return nil }
    return HeldMessages(max(told.unacknowledged, all - ready), isCurrent: false)
  }

  /// Asks until it is known, at most until the statistics are settled.
  ///
  /// - Parameter settled: When they are of after the capture began.
  static func of(
    _ queue: RabbitMQQueue, settled: ContinuousClock.Instant, on connection: AMQPConnection, _ api: ManagementAPI
  ) async throws -> (HeldMessages, consumers: Int64) {
    guard queue.kind != .stream else { return (HeldMessages(0, isCurrent: true), queue.consumers) }
    while true {
      let isSettled = ContinuousClock.now >= settled
      let told = try await RabbitMQQueue.find(queue.vhost, queue.name, api)
      let depth = try await connection.depth(of: queue.name, queue.kind)
      let held = judge(
        ready: Int64(depth.ready), consumers: Int64(depth.consumers), told: told, isSettled: isSettled)
      if let held { return (held, Int64(depth.consumers)) }
      try await Task.sleep(for: .milliseconds(300))
    }
  }

  /// What a manifest says of it; nil: there is nothing to say.
  func omission(of queue: String) -> BackupManifest.Omission? {
    if isCurrent {
      guard count > 0 else { return nil }
      return BackupManifest.Omission(
        what: "\(count) messages of \(queue)", reason: "consumers held them without an acknowledgement")
    }
    let old = "the queue was in use, and the broker's statistics were some seconds old"
    return count > 0
      ? BackupManifest.Omission(
        what: "about \(count) messages of \(queue)",
        reason: "consumers held them without an acknowledgement, or they were gone just then: \(old)")
      : BackupManifest.Omission(
        what: "what consumers held of \(queue) without an acknowledgement", reason: "how much cannot be known: \(old)")
  }
}
