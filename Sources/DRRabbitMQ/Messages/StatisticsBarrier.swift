import DRCore
import Logging

/// Waits until what the management API tells of deliveries is of now.
///
/// Every few seconds the broker gathers what its channels counted (`rabbit_mgmt_metrics_collector.erl`; five by default),
/// and says what it gathered last: two equal answers may both be old when the broker is busy. So messages of our own are
/// handed out one after the other, until the API has told of each. The second was handed out after the first had been
/// gathered: what gathered it began after this wait did, and so has everything that was handed out before.
struct StatisticsBarrier: Sendable {
  private let broker: RabbitMQSettings
  private let api: ManagementAPI
  private let limit: Duration

  init(_ broker: RabbitMQSettings, _ api: ManagementAPI, limit: Duration = .seconds(60)) {
    self.broker = broker
    self.api = api
    self.limit = limit
  }

  /// - Parameter vhost: Where the queue for it is made.
  /// - Returns: Whether the counts are of now. If not, the reason is in the log: they are not to be relied on.
  func pass(vhost: String, logger: Logger) async throws -> Bool {
    do {
      return try await AMQPConnection.withConnection(broker, vhost: vhost, logger: logger) { connection in
        try await ProbeQueue.with(messages: 2, on: connection) { queue in
          for count in 1...2 {
            guard try await queue.takeNext() else {
              logger.warning(
                "a message of a queue of our own did not come back as it was, so that nothing can be known of returned messages",
                metadata: ["rabbitmq.queue": "\(queue.name)", "rabbitmq.vhost": "\(vhost)"])
              return false
            }
            guard try await isTold(count, of: queue.name, vhost) else {
              logger.warning(
                "the broker's statistics do not tell of a delivery, so that nothing can be known of returned messages",
                metadata: ["rabbitmq.waited": "\(limit)"])
              return false
            }
          }
          return true
        }
      }
    } catch let error as DRError where error.rabbitMQCode == 403 {
      logger.warning(
        "this user may not make a queue of its own, so that nothing can be known of returned messages",
        metadata: ["rabbitmq.queue": "\(ProbeQueue.prefix)*", "rabbitmq.vhost": "\(vhost)", "error": "\(error)"])
      return false
    }
  }

  private func isTold(_ count: Int, of queue: String, _ vhost: String) async throws -> Bool {
    let end = ContinuousClock.now + limit
    while ContinuousClock.now < end {
      // Just made, it may not be listed yet.
      let path = "queues/\(ManagementAPI.escape(vhost))/\(ManagementAPI.escape(queue))"
      if let told = try await api.find(path).flatMap(RabbitMQQueue.init), told.deliveries >= count { return true }
      try await Task.sleep(for: .milliseconds(300))
    }
    return false
  }
}
