import DRCore
import Foundation
import NIOCore

/// A queue of our own, there for a moment: messages were put into it, and come back one by one.
package struct ProbeQueue: Sendable {
  /// How the name of each begins.
  package static let prefix = "dr.probe."

  package let name: String
  private let connection: AMQPConnection
  private var taken: UInt64 = 0

  /// Makes one, puts messages into it, and removes it afterwards. One that cannot be removed goes by itself after two
  /// minutes without use.
  ///
  /// - Throws: ``DRError``: 403 under it for a user who may not make it; what `body` throws.
  package static func with<Result: Sendable>(
    messages: Int, on connection: AMQPConnection, body: (inout ProbeQueue) async throws -> Result
  ) async throws -> Result {
    var queue = ProbeQueue(name: prefix + UUID().uuidString, connection: connection)
    try await connection.declareQueue(queue.name, durable: false, arguments: ["x-expires": .int32(120_000)])
    do {
      try await queue.fill(messages)
      let result = try await body(&queue)
      try await connection.deleteQueue(queue.name)
      return result
    } catch {
      await Task { try? await connection.deleteQueue(queue.name) }.value
      throw error
    }
  }

  private func fill(_ count: Int) async throws {
    var properties = AMQPProperties()
    properties.headers = ["probe": .int32(1)]
    var encoded = ByteBuffer()
    properties.encode(into: &encoded)
    let messages = (0..<UInt64(count)).map {
      ArchivedMessage(
        number: $0, redelivered: false, exchange: "", routingKey: ByteBuffer(string: name), properties: encoded,
        body: ByteBuffer(string: name))
    }
    try await connection.selectConfirms()
    var window = PublishWindow(limit: count)
    try await connection.publish(messages, as: Republishing(exchange: ""), window: &window) { _ in }
    try await connection.settle(&window) { _ in }
    if let failure = window.failures.first {
      throw DRError(
        .sourceFailed, "a message to a queue of our own did not reach it: \(failure.reason)",
        advice: "see the broker's alarms and its log", object: name)
    }
    try await connection.setPrefetch(1)
    try await connection.consume(name, tag: "dr-probe")
  }

  /// Takes the next message; the broker hands it out only now.
  ///
  /// - Returns: Whether it came within ten seconds and is as it was.
  package mutating func takeNext() async throws -> Bool {
    if taken > 0 { try await connection.acknowledge(upTo: taken) }
    var reading = try AMQPConnection.Reading.discarding()
    reading.wanted = 1
    _ = try await connection.take(&reading, idle: .seconds(10))
    guard reading.isComplete else { return false }
    taken += 1
    return String(buffer: reading.archive.buffer).hasSuffix(name)
  }
}
