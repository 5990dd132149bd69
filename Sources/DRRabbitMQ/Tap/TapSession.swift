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
  let progress: TapProgress
  let logger: Logger

  private var key: String { queue.key }

  /// - Parameter onProgress: Called when the broker was heard and what it gave is stored.
  func run(_ onProgress: () -> Void) async throws {
    guard let tap = queue.tap else { return }
    let connection = try await AMQPConnection.connect(
      broker, vhost: queue.vhost, heartbeat: .seconds(30), logger: logger)
    var number = 0
    var isNoted = true
    do {
      number = try await log.numbers(key).last ?? 0
      // More than two segments' worth is never on its way.
      try await connection.setPrefetch(5000)
      try await connection.consume(tap, tag: "dr-tap")
      try await skipRepeated(connection, tap, last: number)
      var due = ContinuousClock.now
      while true {
        // The time that a store takes is a part of the interval.
        due = max(due + options.segmentInterval, .now + .milliseconds(20))
        let gathered = try await gather(connection, tap, until: due)
        if let archive = gathered.archive {
          isNoted = false
          try await store(archive, number + 1, gathered.tag, tap, connection)
          number += 1
        } else if gathered.tag > 0 {
          // All of it was for other queues.
          try await connection.acknowledge(upTo: gathered.tag)
        }
        if let moment = gathered.through { progress.advance(queue, through: moment, segments: number) }
        onProgress()
        try Task.checkCancellation()
      }
    } catch {
      await connection.abort()
      if !isNoted { await noteEnd(number) }
      throw error
    }
  }

  /// Saves the next session the search for repeated messages. Of a segment whose store or acknowledgement failed, the note
  /// that was made before it stays.
  private func noteEnd(_ number: Int) async {
    await Task {
      do {
        guard let state = try await log.state(of: key), state.pending?.number == number else { return }
        try await log.note(RabbitMQTapLog.State(acknowledged: number), of: key)
      } catch {
        logger.debug("the end of a tap was not noted", metadata: ["error": "\(error)"])
      }
    }.value
  }

  private func reading() throws -> AMQPConnection.Reading {
    let header = MessageArchive.Header(
      vhost: queue.vhost, queue: queue.queue, type: "tap", durable: true, arguments: [:], broker: broker.host,
      brokerVersion: brokerVersion, captured: Timestamp.format(Date()))
    var reading = AMQPConnection.Reading(
      archive: try MessageArchiveWriter(header, into: ByteBuffer()), frameSize: options.segmentSize)
    // A segment holds whole messages.
    reading.fillsWithWholeMessages = true
    return reading
  }

  private struct Gathered {
    /// Nil: nothing came for this queue.
    var archive: ByteBuffer?
    /// Of the last delivery; 0: nothing came.
    var tag: UInt64
    /// Everything that was in the tap at this moment is in this segment, or in those before; nil: the tap holds more.
    var through: Date?
  }

  /// Takes what comes until a segment is full, or due.
  private func gather(
    _ connection: AMQPConnection, _ tap: String, until due: ContinuousClock.Instant
  ) async throws -> Gathered {
    var reading = try reading()
    while true {
      let left = ContinuousClock.now.duration(to: due)
      // Messages that the broker hands out end with the prefetch: a full window is a segment too.
      if left <= .zero || reading.archive.summary.messages >= 4000 { break }
      let idle = reading.archive.summary.messages == 0 ? left : min(left, .milliseconds(500))
      if try await connection.take(&reading, idle: idle, perConsumer: reading.ofConsumer + 500, until: due) == .full {
        break
      }
    }
    let moment = Date()
    var through: Date?
    let depth = try await connection.depth(of: tap)
    // Without our own consumer it is no answer: see ``AMQPConnection/depth(of:_:hasConsumer:)``.
    if depth.ready == 0, depth.consumers > 0 {
      // All is handed out; what is on its way comes before the answer to one more question.
      _ = try await connection.depth(of: tap)
      if try await connection.take(&reading, idle: .zero) == .idle { through = moment }
    }
    guard reading.archive.summary.messages > 0 else { return Gathered(archive: nil, tag: 0, through: through) }
    try reading.archive.finish()
    let tag = reading.lastTag
    let archive = queue.hearsDefaultExchange ? try await translated(reading.archive.buffer) : reading.archive.buffer
    return Gathered(archive: archive, tag: tag, through: through)
  }

  private func store(
    _ archive: ByteBuffer, _ number: Int, _ tag: UInt64, _ tap: String, _ connection: AMQPConnection
  ) async throws {
    var digest = RepetitionDigest()
    try await MessageArchiveReader.read(ByteStream(archive), object: queue.title) { event in
      if case .message(let message) = event { try digest.add(message) }
    }
    let pending = RabbitMQTapLog.State.Pending(number: number, messages: digest.messages, sha256: digest.hex())
    // Not cancelled in the middle: what was taken is stored, and then it is told to stop.
    try await Task {
      try await log.note(RabbitMQTapLog.State(acknowledged: number - 1, pending: pending), of: key)
      try await log.put(key, number, archive)
      try await connection.acknowledge(upTo: tag)
      // The answer comes after the broker has seen the acknowledgement.
      _ = try await connection.depth(of: tap)
    }.value
  }

  /// An archive with the messages that the firehose told of as they were, and without those to other queues; nil if none
  /// is left.
  private func translated(_ archive: ByteBuffer) async throws -> ByteBuffer? {
    var writer: MessageArchiveWriter?
    try await MessageArchiveReader.read(ByteStream(archive), object: queue.title) { event in
      switch event {
      case .header(let header): writer = try MessageArchiveWriter(header, into: ByteBuffer())
      case .message(let traced):
        guard let message = try FirehoseMessage.original(traced, of: queue.queue) else { return }
        if let seconds = try message.decodedProperties().timestamp {
          writer?.note(timestamp: Int64(clamping: seconds))
        }
        try writer?.add(message, exchange: message.exchange, routingKey: String(buffer: message.routingKey))
      case .end: break
      }
    }
    guard var writer, writer.summary.messages > 0 else { return nil }
    try writer.finish()
    return writer.buffer
  }

  /// After an end between a segment's store and the broker's sight of its acknowledgement, all of its messages come again:
  /// they are recognised and acknowledged, not stored twice.
  private func skipRepeated(_ connection: AMQPConnection, _ tap: String, last: Int) async throws {
    guard let pending = try await log.state(of: key)?.pending, pending.number == last else { return }
    var come = RepetitionDigest()
    var tag: UInt64 = 0
    var areRedelivered = true
    while come.messages < pending.messages, areRedelivered {
      // What the firehose told of other queues lies between them.
      var reading = try reading()
      reading.frameSize = .max
      reading.wanted = Int64(pending.messages - come.messages)
      let taken = try await connection.take(&reading, idle: .seconds(5))
      try reading.archive.finish()
      tag = max(tag, reading.lastTag)
      try await MessageArchiveReader.read(ByteStream(reading.archive.buffer), object: queue.title) { event in
        guard case .message(let traced) = event, areRedelivered else { return }
        areRedelivered = traced.redelivered
        if let message = try FirehoseMessage.original(traced, of: queue.queue) { try come.add(message) }
      }
      if taken != .complete { break }
    }
    let isRepeated = areRedelivered && come.messages == pending.messages && come.hex() == pending.sha256
    if isRepeated {
      try await connection.acknowledge(upTo: tag)
      // The answer comes after the broker has seen the acknowledgement.
      _ = try await connection.depth(of: tap)
      logger.notice(
        "the last segment's messages came again and were not stored twice",
        metadata: ["rabbitmq.queue": "\(queue.title)", "rabbitmq.messages": "\(pending.messages)"])
    }
    try await log.note(RabbitMQTapLog.State(acknowledged: last), of: key)
    if !isRepeated, tag > 0 {
      // They are others: they come again on a new connection, as the first of the next segment.
      throw DRError(.sourceFailed, "the tap begins anew after it has looked for repeated messages")
    }
  }
}
