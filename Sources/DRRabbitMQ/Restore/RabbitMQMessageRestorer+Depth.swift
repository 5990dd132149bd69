import DRCore
import Logging

extension RabbitMQMessageRestorer {
  struct DepthAfter {
    var ready: Int64
    /// Why it is less than what was confirmed.
    var finding: Finding?
  }

  /// Every message was confirmed; now the queue itself is asked.
  ///
  /// A queue that drops its oldest messages has confirmed them too.
  func depthAfter(
    _ destination: Destination, _ published: Int, _ counts: Counts, _ logger: Logger
  ) async throws -> DepthAfter {
    let queue = destination.queue
    let brought = Int64(clamping: destination.first) + Int64(published)
    let expected = destination.before + brought
    // What expires does not come back.
    let mayExpire = queue.limit("message-ttl") != nil || (counts.expiring > 0 && timeToLive != .none)
    let (ready, consumers) = try await AMQPConnection.withConnection(broker, vhost: queue.vhost, logger: logger) {
      connection in
      let deadline = ContinuousClock.now + (mayExpire ? .seconds(2) : .seconds(10))
      var consumers = 0
      while true {
        let depth = try await connection.depth(of: queue.name, queue.kind)
        consumers = max(consumers, depth.consumers)
        if depth.ready >= Int(clamping: expected) || ContinuousClock.now > deadline {
          return (Int64(depth.ready), Int64(consumers))
        }
        try await Task.sleep(for: .milliseconds(50))
      }
    }
    guard ready < expected else { return DepthAfter(ready: ready) }
    // Its policies may be others by now than when it was looked at first.
    let api = ManagementAPI(broker)
    let now = try await QueuePolicies.read(api).applied(to: try await RabbitMQQueue.find(queue.vhost, queue.name, api))
    var why: [String] = []
    if consumers > 0 || destination.hadConsumers { why.append("consumers are at work") }
    if !overrides.isDisjoint(with: [.consumers, .journalMismatch]) { why.append("it was overridden that others take") }
    if let ttl = now.limit("message-ttl") { why.append("it lets messages expire after \(ttl) ms") }
    if counts.expiring > 0, timeToLive != .none {
      why.append("\(counts.expiring) of the messages have a time to live of their own")
    }
    if destination.before > 0, ready >= brought { why.append("\(destination.before) were there before") }
    let dropped = RestorePreflight.tooLong(
      now, ready: destination.before, load: RestorePreflight.Load(messages: brought, bytes: counts.bytes))
    let finding = Self.judge(
      queue.title, ready: ready, expected: expected, why: why,
      limit: dropped.map { _ in Self.limit(of: now, ready: ready, expected) },
      isOverridden: overrides.contains(.maxLength))
    logger.log(
      level: finding.severity == .failure ? .error : .notice, "a restored queue is less deep than what was confirmed",
      metadata: [
        "rabbitmq.queue": "\(queue.title)", "rabbitmq.depth": "\(ready)", "rabbitmq.expected": "\(expected)",
      ])
    return DepthAfter(ready: ready, finding: finding)
  }

  /// A limit of a queue's length.
  struct LengthLimit {
    var name: String
    /// Whether the queue is as long as it may be.
    var isReached: Bool
  }

  private static func limit(of queue: RabbitMQQueue, ready: Int64, _ expected: Int64) -> LengthLimit {
    if let most = queue.limit("max-length"), most < expected {
      return LengthLimit(name: "max-length of \(most)", isReached: ready >= most)
    }
    return LengthLimit(name: "max-length-bytes of \(queue.limit("max-length-bytes") ?? 0)", isReached: true)
  }

  /// - Parameters:
  ///   - why: What explains it.
  ///   - limit: Nil: the queue has none, or room for all.
  private static func judge(
    _ title: String, ready: Int64, expected: Int64, why: [String], limit: LengthLimit?, isOverridden: Bool
  ) -> Finding {
    let evidence = "\(expected) messages were confirmed, and it holds \(ready)"
    if let limit, limit.isReached || why.isEmpty {
      return Finding(
        depthCheck, isOverridden ? .warning : .failure, subject: title,
        evidence: "\(evidence): it has a \(limit.name), and drops its oldest messages"
          + (isOverridden ? " (overridden: \(RestoreRefusal.maxLength))" : ""),
        advice: isOverridden ? nil : "raise or remove that limit, empty the queue, and restore it again")
    }
    guard why.isEmpty else {
      return Finding(depthCheck, .notice, subject: title, evidence: "\(evidence): \(why.joined(separator: ", "))")
    }
    return Finding(
      depthCheck, .failure, subject: title,
      evidence: "\(evidence): no consumer was seen, and neither the queue nor the messages have a time to live",
      advice: "see who purges it or takes from it, and the broker's log; empty the queue, and restore it again")
  }
}
