import CRabbitMQ
import DRCore

extension AMQPConnection {
  /// What a queue says of itself.
  package struct Depth: Hashable, Sendable {
    /// Messages that are ready; those handed out to consumers are not among them.
    package var ready: Int
    package var consumers: Int
  }

  /// Asks how deep a queue is, without touching it.
  ///
  /// - Throws: ``DRError`` with `sourceFailed`: 404 under it if there is no such queue, 405 if it is another
  ///   connection's own.
  package func depth(of queue: String) async throws -> Depth {
    try await cancellable {
      let connection = try opened.connection
      let answer = AMQPHandle.withBytes(queue) {
        amqp_queue_declare(connection, AMQPHandle.channel, $0, 1, 0, 0, 0, amqp_empty_table)
      }
      try check("asking for the queue", "\(vhost)/\(queue)")
      guard let answer else { throw DRError(.sourceFailed, "the broker did not answer for a queue", object: queue) }
      let depth = Depth(ready: Int(answer.pointee.message_count), consumers: Int(answer.pointee.consumer_count))
      try release()
      return depth
    }
  }

  /// Asks how deep a queue is until its 0 can be believed.
  ///
  /// Of a quorum queue whose leader does not answer within 250 ms, or that has none, the broker says 0 messages and 0 consumers
  /// as if it were so (`rabbit_quorum_queue.erl`, `stat`). A 0 is taken here if a consumer is told of with it; or, where none need
  /// be there, if it came at once, three times in a row.
  ///
  /// - Parameter hasConsumer: The asker consumes from the queue: an answer without a consumer is not of it.
  /// - Throws: ``DRError`` with `timedOut` if no such answer came within the broker's time limit.
  package func depth(of queue: String, _ kind: RabbitMQQueue.Kind, hasConsumer: Bool = false) async throws -> Depth {
    let end = ContinuousClock.now + settings.timeLimit
    var prompt = 0
    while true {
      let asked = ContinuousClock.now
      let depth = try await depth(of: queue)
      if kind != .quorum || depth.ready > 0 || depth.consumers > 0 { return depth }
      prompt = asked.duration(to: .now) < .milliseconds(150) ? prompt + 1 : 0
      if prompt >= 3, !hasConsumer { return depth }
      guard ContinuousClock.now < end else {
        throw DRError(
          .timedOut, "the leader of the quorum queue does not say how many messages it has",
          advice: "see the broker's load and whether a majority of the queue's members is up, then try again",
          object: "\(vhost)/\(queue)")
      }
      try await Task.sleep(for: .milliseconds(hasConsumer || prompt == 0 ? 200 : 50))
    }
  }

  /// Makes a queue that is there until it is deleted.
  ///
  /// - Parameter isExclusive: It is this connection's alone, and goes with it.
  package func declareQueue(
    _ queue: String, durable: Bool = true, isExclusive: Bool = false, arguments: AMQPTable = [:]
  ) async throws {
    try await cancellable {
      let handle = try opened
      _ = try handle.withTable(arguments) { table in
        AMQPHandle.withBytes(queue) {
          amqp_queue_declare(
            handle.connection, AMQPHandle.channel, $0, 0, durable ? 1 : 0, isExclusive ? 1 : 0, 0, table)
        }
      }
      try check("making the queue", "\(vhost)/\(queue)")
      try release()
    }
  }

  package func declareExchange(
    _ exchange: String, type: String, durable: Bool, autoDelete: Bool, arguments: AMQPTable = [:]
  ) async throws {
    try await cancellable {
      let handle = try opened
      _ = try handle.withTable(arguments) { table in
        AMQPHandle.withBytes(exchange) { exchange in
          AMQPHandle.withBytes(type) { type in
            amqp_exchange_declare(
              handle.connection, AMQPHandle.channel, exchange, type, 0, durable ? 1 : 0, autoDelete ? 1 : 0, 0, table)
          }
        }
      }
      try check("making the exchange", "\(vhost)/\(exchange)")
      try release()
    }
  }

  package func bind(
    queue: String, to exchange: String, routingKey: String = "", arguments: AMQPTable = [:]
  ) async throws {
    try await cancellable {
      let handle = try opened
      _ = try handle.withTable(arguments) { table in
        AMQPHandle.withBytes(queue) { queue in
          AMQPHandle.withBytes(exchange) { exchange in
            AMQPHandle.withBytes(routingKey) { key in
              amqp_queue_bind(handle.connection, AMQPHandle.channel, queue, exchange, key, table)
            }
          }
        }
      }
      try check("binding the queue", "\(vhost)/\(queue)")
      try release()
    }
  }

  package func deleteExchange(_ exchange: String) async throws {
    try await cancellable {
      let connection = try opened.connection
      _ = AMQPHandle.withBytes(exchange) { amqp_exchange_delete(connection, AMQPHandle.channel, $0, 0) }
      try check("removing the exchange", "\(vhost)/\(exchange)")
      try release()
    }
  }

  package func deleteQueue(_ queue: String) async throws {
    try await cancellable {
      let connection = try opened.connection
      _ = AMQPHandle.withBytes(queue) { amqp_queue_delete(connection, AMQPHandle.channel, $0, 0, 0) }
      try check("removing the queue", "\(vhost)/\(queue)")
      try release()
    }
  }
}
