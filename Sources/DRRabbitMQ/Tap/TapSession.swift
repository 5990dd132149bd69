import DRCore
import DRStorage
import Foundation
import Logging
import NIOCore

/// One connection of a tap to its queue: takes what comes, stores it, and only then acknowledges it.
struct TapSession {
  let queue: TapCoverage
  let broker: RabbitMQSettings
  let brokerVersion: String
  let log: RabbitMQTapLog
  let options: RabbitMQTap.Options
  let logger: Logger
  let onDurable: @Sendable (RecoveryPoint) async -> Void

  private var key: String { RabbitMQTapLog.key(vhost: queue.vhost, queue: queue.queue) }

  func run(_ onProgress: () -> Void) async throws {
    guard let tap = queue.tap else { return }
    let connection = try await AMQPConnection.connect(
      broker, vhost: queue.vhost, heartbeat: .seconds(30), logger: logger)
    do {
      var number = try await log.numbers(key).last ?? 0
      // More than two segments' worth is never on its way.
      try await connection.setPrefetch(5000)
      try await connection.consume(tap, tag: "dr-tap")
      try await skipRepeated(connection, last: number)
      var due = ContinuousClock.now
      while true {
        // The time that a store takes is a part of the interval.
        due = max(due + options.segmentInterval, .now + .milliseconds(20))
        let (archive, tag) = try await gather(connection, until: due)
        if let archive {
          number += 1
          try await store(archive, number, tag, tap, connection)
          onProgress()
        }
        try Task.checkCancellation()
      }
    } catch {
      await connection.abort()
      throw error
    }
  }

  private func reading() throws -> AMQPConnection.Reading {
    let header = MessageArchive.Header(
      vhost: queue.vhost, queue: queue.queue, type: "tap", durable: true, arguments: [:], broker: broker.host,
      brokerVersion: brokerVersion, captured: Timestamp.format(Date()))
    return AMQPConnection.Reading(
      archive: try MessageArchiveWriter(header, into: ByteBuffer()), frameSize: options.segmentSize)
  }

  /// Takes what comes until a segment is full, or due.
  private func gather(
    _ connection: AMQPConnection, until due: ContinuousClock.Instant
  ) async throws -> (ByteBuffer?, UInt64) {
    var reading = try reading()
    while true {
      let left = ContinuousClock.now.duration(to: due)
      // Messages that the broker hands out end with the prefetch: a full window is a segment too.
      if left <= .zero || reading.archive.summary.messages >= 4000 { break }
      let idle = reading.archive.summary.messages == 0 ? left : min(left, .milliseconds(500))
      // Counted, so that a call ends in time also when something comes all the while.
      if try await connection.take(&reading, idle: idle, perConsumer: reading.ofConsumer + 500) == .full { break }
    }
    guard reading.archive.summary.messages > 0 else { return (nil, 0) }
    try reading.archive.finish()
    return (reading.archive.buffer, reading.lastTag)
  }

  private func store(
    _ archive: ByteBuffer, _ number: Int, _ tag: UInt64, _ tap: String, _ connection: AMQPConnection
  ) async throws {
    let now = Date()
    // Not cancelled in the middle: what was taken is stored, and then it is told to stop.
    try await Task {
      try await log.put(key, number, archive)
      try await connection.acknowledge(upTo: tag)
      // The answer comes after the broker has seen the acknowledgement.
      _ = try await connection.depth(of: tap)
      try await log.noteAcknowledged(key, number)
    }.value
    await onDurable(RecoveryPoint(time: now, position: "\(queue.title) segment \(number)"))
  }

  /// After an end between a segment's store and the broker's sight of its acknowledgement, all of its messages come again:
  /// they are recognised and acknowledged, not stored twice.
  private func skipRepeated(_ connection: AMQPConnection, last: Int) async throws {
    guard last > 0, try await log.acknowledged(key) < last else { return }
    let stored = try await messages(log.get(key, last))
    var reading = try reading()
    reading.frameSize = .max
    reading.wanted = Int64(stored.count)
    let taken = try await connection.take(&reading, idle: .seconds(10))
    try reading.archive.finish()
    let come = try await messages(reading.archive.buffer)
    let isRepeated =
      taken == .complete && come.count == stored.count
      && zip(come, stored).allSatisfy { $0.redelivered && $0.isSame(as: $1) }
    if isRepeated {
      try await connection.acknowledge(upTo: reading.lastTag)
      guard let tap = queue.tap else { return }
      _ = try await connection.depth(of: tap)
      try await log.noteAcknowledged(key, last)
      logger.notice(
        "the last segment's messages came again and were not stored twice",
        metadata: ["rabbitmq.queue": "\(queue.title)", "rabbitmq.messages": "\(stored.count)"])
    } else {
      // They are others: they come again on a new connection, as the first of the next segment.
      try await log.noteAcknowledged(key, last)
      if !come.isEmpty {
        throw DRError(.sourceFailed, "the tap begins anew after it has looked for repeated messages")
      }
    }
  }

  private func messages(_ archive: ByteBuffer) async throws -> [ArchivedMessage] {
    var messages: [ArchivedMessage] = []
    try await MessageArchiveReader.read(ByteStream(archive), object: queue.title) { event in
      if case .message(let message) = event { messages.append(message) }
    }
    return messages
  }
}

extension ArchivedMessage {
  /// Whether it is the same message, maybe delivered once more.
  func isSame(as other: ArchivedMessage) -> Bool {
    guard body == other.body, routingKey == other.routingKey, exchange == other.exchange else { return false }
    if properties == other.properties { return true }
    guard var mine = try? decodedProperties(), var others = try? other.decodedProperties() else { return false }
    mine.dropDeliveryCount()
    others.dropDeliveryCount()
    return mine == others
  }
}

extension AMQPProperties {
  /// The broker's own note on a message of a quorum queue that was returned.
  fileprivate mutating func dropDeliveryCount() {
    headers?.entries.removeAll { $0.name == "x-delivery-count" }
    if headers?.entries.isEmpty == true { headers = nil }
  }
}
