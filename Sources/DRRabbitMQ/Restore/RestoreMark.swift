package import DRCore
import Foundation
package import Logging
import NIOCore

/// By what a restore's connection is known to be there: an exclusive queue of its own, which the broker removes once it has
/// ended the connection, and with whose name nobody else can have one until then (405).
///
/// A killed process says nothing: the broker goes on with what it has received, and reads the rest first. Short of memory or
/// disk it reads nothing, and does not even see the end, until the alarm is over. (The management API's lists cannot tell:
/// what they say is up to five seconds old, and of a connection that is younger they say nothing.)
package struct RestoreMark: Sendable {
  /// Also the name of the restore's exchange; the same for a restore that goes on.
  package let name: String
  private let broker: RabbitMQSettings
  private let vhost: String
  private let logger: Logger

  package init(_ queue: RabbitMQQueue, _ broker: RabbitMQSettings, _ logger: Logger) {
    let digest = StreamDigest.hex(ByteBuffer(string: queue.title)).prefix(16)
    name = "dr.restore.\(digest)"
    self.broker = broker
    vhost = queue.vhost
    self.logger = logger
  }

  /// Connects, with confirms on; the broker's lists name the connection after the restore.
  func connect() async throws -> AMQPConnection {
    var settings = broker
    settings.connectionName += " \(name)"
    let connection = try await AMQPConnection.connect(settings, vhost: vhost, logger: logger)
    try await connection.selectConfirms()
    return connection
  }

  /// Puts the mark on a connection, until its end.
  ///
  /// - Returns: Nil; or why not: then the connection is closed.
  /// - Throws: ``DRError`` if the broker did not answer.
  package func put(on connection: AMQPConnection) async throws -> DRError? {
    do {
      try await connection.declareQueue(name, durable: false, isExclusive: true)
      return nil
    } catch let error as DRError where (error.rabbitMQCode ?? 0) != 0 {
      return error
    }
  }

  /// Waits until nothing of a killed restore is on its way to its queue any more.
  ///
  /// When the connection is gone, the queue may still have work. A classic queue says how deep it is before it takes what waits
  /// for it, so that what it says changes while anything does; a quorum queue counts what its disks have. What is said of a
  /// stream's depth is seconds old: its last offset tells, where it was empty before the restore.
  ///
  /// - Returns: What the queue says then; nil if that was not to be known, which the log says.
  func waitUntilQuiet(_ queue: RabbitMQQueue) async throws -> AMQPConnection.Depth? {
    let limit = max(broker.timeLimit, .seconds(30))
    let deadline = ContinuousClock.now + limit
    while let refusal = try await tryOnce() {
      guard refusal.rabbitMQCode == 405, ContinuousClock.now < deadline else {
        return warn("whether a killed restore's connection is gone cannot be seen", queue, refusal)
      }
      try await Task.sleep(for: .milliseconds(100))
    }
    let still: Duration = queue.kind == .classic ? .milliseconds(500) : .seconds(2)
    do {
      var depth = try await self.depth(of: queue)
      var since = ContinuousClock.now
      while since.duration(to: .now) < still {
        guard ContinuousClock.now < deadline else { return warn("the queue does not become still", queue, nil) }
        try await Task.sleep(for: .milliseconds(50))
        let next = try await self.depth(of: queue)
        if next.ready != depth.ready { since = .now }
        depth = next
      }
      return depth
    } catch let error as DRError where error.rabbitMQCode == 403 {
      return warn("this user may not read the stream", queue, error)
    }
  }

  /// What the queue says now; nil if this user may not read a stream.
  func currentDepth(of queue: RabbitMQQueue) async throws -> AMQPConnection.Depth? {
    do {
      return try await depth(of: queue)
    } catch let error as DRError where error.rabbitMQCode == 403 {
      return warn("this user may not read the stream", queue, error)
    }
  }

  private func warn(_ why: String, _ queue: RabbitMQQueue, _ error: DRError?) -> AMQPConnection.Depth? {
    logger.warning(
      "what a killed restore had sent may be there twice: \(why)",
      metadata: [
        "rabbitmq.queue": "\(queue.title)", "rabbitmq.mark": "\(name)", "error": "\(error.map { "\($0)" } ?? "none")",
      ])
    return nil
  }

  private func depth(of queue: RabbitMQQueue) async throws -> AMQPConnection.Depth {
    if queue.kind == .stream {
      let last = try await QueueDump.lastOffset(queue, broker, logger) ?? -1
      return AMQPConnection.Depth(ready: Int(last) + 1, consumers: 0)
    }
    return try await AMQPConnection.withConnection(broker, vhost: vhost, logger: logger) {
      try await $0.depth(of: queue.name, queue.kind)
    }
  }

  private func tryOnce() async throws -> DRError? {
    let connection = try await AMQPConnection.connect(broker, vhost: vhost, logger: logger)
    do {
      let refusal = try await put(on: connection)
      await connection.close()
      return refusal
    } catch {
      await connection.abort()
      throw error
    }
  }
}
