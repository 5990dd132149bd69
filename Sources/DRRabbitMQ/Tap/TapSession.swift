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

  /// A session has taken messages only to look at them, and another one is to take them again: no failure.
  struct BeginsAnew: Error {}

  /// How often the note beside the segments is renewed.
  private static let noteInterval = Duration.seconds(10)

  /// How far the segments go.
  private struct Position {
    var number = 0
    /// The digest of that segment.
    var previous: String?
    /// When its last message came, in milliseconds since 1970; nil: not known.
    var until: Int64?
    /// Everything that had come by then is in the segments; 0: not known.
    var through: Int64 = 0
    /// When the tap's queue was made: nothing in it came before; 0: not known.
    var made: Int64 = 0

    func head(_ key: String) -> TapSequence.Head {
      TapSequence.Head(key: key, number: number, until: until ?? 0, through: through)
    }
  }

  /// - Parameters:
  ///   - onStart: Called when the broker gives what comes.
  ///   - onProgress: Called when the broker was heard and what it gave is stored.
  func run(onStart: () -> Void, onProgress: () -> Void) async throws {
    guard let tap = queue.tap else { return }
    let connection = try await AMQPConnection.connect(
      broker, vhost: queue.vhost, heartbeat: .seconds(30), logger: logger)
    var position = Position()
    var isNoted = true
    var (noted, notedAt): (TapSequence.Head?, ContinuousClock.Instant?)
    do {
      position = try await lastPosition()
      // More than two segments' worth is never on its way.
      try await connection.setPrefetch(5000)
      try await connection.consume(tap, tag: "dr-tap")
      onStart()
      try await skipRepeated(connection, tap, last: position)
      var due = ContinuousClock.now
      // Until the tap was seen to be empty, what is in it may have waited.
      var isBehind = true
      while true {
        // The time that a store takes is a part of the interval.
        due = max(due + options.segmentInterval, .now + .milliseconds(20))
        let gathered = try await gather(connection, tap, after: position, isBehind: isBehind, until: due)
        if let archive = gathered.archive {
          isNoted = false
          position = try await store(archive, gathered, after: position, tap, connection)
        } else if gathered.tag > 0 {
          // All of it was for other queues.
          try await connection.acknowledge(upTo: gathered.tag)
        }
        isBehind = gathered.through == nil
        if let moment = gathered.through {
          position.through = max(position.through, moment.milliseconds)
          progress.advance(queue, through: moment, segments: position.number)
        }
        let isDue = notedAt.map { $0.duration(to: .now) > Self.noteInterval } ?? true
        if position.number > 0 || position.through > 0, isDue {
          noted = position.head(key)
          try await log.put(position.head(key))
          notedAt = .now
        }
        onProgress()
        try Task.checkCancellation()
      }
    } catch {
      await connection.abort()
      await noteEnd(position, isNoted: isNoted, head: noted)
      throw error
    }
  }

  private func lastPosition() async throws -> Position {
    let (stored, head, state) = (try await log.stored(key), try await log.head(key), try await log.state(of: key))
    let last = stored.last
    var position = Position()
    position.through = max(head?.through ?? 0, state?.through ?? 0)
    position.number = last?.number ?? 0
    position.made = try await log.beginnings(key).last?.made ?? 0
    position.previous = last?.info.sha256
    // Where two taps stored one, nothing tells whose messages do not come again: a restore reads both.
    if stored.count(where: { $0.number == last?.number }) > 1 { position.previous = nil }
    if let state, (state.pending?.number ?? state.acknowledged) == position.number { position.until = state.until }
    if position.until == nil, let head, head.number == position.number, head.until > 0 { position.until = head.until }
    // A number that was used is not used again, also if its segment is gone.
    position.number = max(position.number, head?.number ?? 0, state?.acknowledged ?? 0)
    return position
  }

  /// Saves the next session the search for repeated messages. Of a segment whose store or acknowledgement failed, the note
  /// that was made before it stays.
  private func noteEnd(_ position: Position, isNoted: Bool, head: TapSequence.Head?) async {
    guard position.number > 0 || position.through > 0 else { return }
    await Task {
      do {
        if !isNoted, let state = try await log.state(of: key), state.pending?.number == position.number {
          try await log.note(
            RabbitMQTapLog.State(acknowledged: position.number, until: position.until, through: position.through),
            of: key)
        }
        if head != position.head(key) { try await log.put(position.head(key)) }
      } catch {
        logger.debug("the end of a tap was not noted", metadata: ["error": "\(error)"])
      }
    }.value
  }

  private func reading(_ previous: String? = nil) throws -> AMQPConnection.Reading {
    var header = MessageArchive.Header(
      vhost: queue.vhost, queue: queue.queue, type: "tap", durable: true, arguments: [:], broker: broker.host,
      brokerVersion: brokerVersion, captured: Timestamp.format(Date()))
    header.previous = previous
    var reading = AMQPConnection.Reading(
      archive: try MessageArchiveWriter(header, into: ByteBuffer(), recordsArrivals: true),
      frameSize: options.segmentSize)
    // A segment holds whole messages.
    reading.fillsWithWholeMessages = true
    reading.recordsArrivals = true
    return reading
  }

  private struct Gathered {
    /// Nil: nothing came for this queue.
    var archive: ByteBuffer?
    /// Of the last delivery; 0: nothing came.
    var tag: UInt64
    /// When the last message came.
    var until: Int64?
    /// Everything that was in the tap at this moment is in this segment, or in those before; nil: the tap holds more.
    var through: Date?
  }

  /// Takes what comes until a segment is full, or due.
  ///
  /// What came while the segment before was stored has waited here, and what came before the tap was seen to be empty has waited in
  /// the broker: of these the moment is known by its bounds.
  private func gather(
    _ connection: AMQPConnection, _ tap: String, after position: Position, isBehind: Bool,
    until due: ContinuousClock.Instant
  ) async throws -> Gathered {
    var reading = try reading(position.previous)
    reading.waitingSince = max(position.through, position.made)
    while reading.archive.summary.messages < 4000, reading.waitingSince != nil {
      let before = reading.ofConsumer
      if try await connection.take(&reading, idle: .zero, perConsumer: before + 500) == .full { break }
      if reading.ofConsumer - before < 500 {
        if try await isEmpty(connection, tap, &reading) { reading.waitingSince = nil }
        break
      }
    }
    while true {
      let left = ContinuousClock.now.duration(to: due)
      // Messages that the broker hands out end with the prefetch: a full window is a segment too.
      if left <= .zero || reading.archive.summary.messages >= 4000 { break }
      let idle = reading.archive.summary.messages == 0 ? left : min(left, .milliseconds(500))
      let before = reading.ofConsumer
      if try await connection.take(&reading, idle: idle, perConsumer: before + 500, until: due) == .full {
        break
      }
      if reading.waitingSince != nil, reading.ofConsumer - before < 500, try await isEmpty(connection, tap, &reading) {
        reading.waitingSince = nil
      }
    }
    let moment = Date()
    let through = try await isEmpty(connection, tap, &reading) ? moment : nil
    guard reading.archive.summary.messages > 0 else { return Gathered(archive: nil, tag: 0, through: through) }
    let until = reading.archive.arrival?.upperBound
    try reading.archive.finish()
    let tag = reading.lastTag
    let archive = queue.hearsDefaultExchange ? try await translated(reading.archive.buffer) : reading.archive.buffer
    return Gathered(archive: archive, tag: tag, until: until, through: through)
  }

  /// Whether the tap holds nothing that is not in the reading.
  private func isEmpty(
    _ connection: AMQPConnection, _ tap: String, _ reading: inout AMQPConnection.Reading
  ) async throws -> Bool {
    let depth = try await connection.depth(of: tap)
    // Without our own consumer it is no answer: see ``AMQPConnection/depth(of:_:hasConsumer:)``.
    guard depth.ready == 0, depth.consumers > 0 else { return false }
    // All is handed out; what is on its way comes before the answer to one more question.
    _ = try await connection.depth(of: tap)
    return try await connection.take(&reading, idle: .zero) == .idle
  }

  private func store(
    _ archive: ByteBuffer, _ gathered: Gathered, after position: Position, _ tap: String, _ connection: AMQPConnection
  ) async throws -> Position {
    let number = position.number + 1
    var digest = RepetitionDigest()
    try await MessageArchiveReader.read(ByteStream(archive), object: queue.title) { event in
      if case .message(let message) = event { try digest.add(message) }
    }
    let pending = RabbitMQTapLog.State.Pending(number: number, messages: digest.messages, sha256: digest.hex())
    // Not cancelled in the middle: what was taken is stored, and then it is told to stop.
    return try await Task {
      try await log.note(
        RabbitMQTapLog.State(
          acknowledged: number - 1, pending: pending, until: gathered.until, through: position.through), of: key)
      var stored = position
      stored.previous = try await log.put(key, number, previousUntil: position.until, archive)
      stored.number = number
      stored.until = gathered.until
      try await connection.acknowledge(upTo: gathered.tag)
      // The answer comes after the broker has seen the acknowledgement.
      _ = try await connection.depth(of: tap)
      return stored
    }.value
  }

  /// An archive with the messages that the firehose told of as they were, and without those to other queues; nil if none
  /// is left.
  private func translated(_ archive: ByteBuffer) async throws -> ByteBuffer? {
    var writer: MessageArchiveWriter?
    try await MessageArchiveReader.read(ByteStream(archive), object: queue.title) { event in
      switch event {
      case .header(let header): writer = try MessageArchiveWriter(header, into: ByteBuffer(), recordsArrivals: true)
      case .message(let traced):
        guard let message = try FirehoseMessage.original(traced, of: queue.queue) else { return }
        if let seconds = try message.rawProperties().timestamp {
          writer?.note(timestamp: Int64(clamping: seconds))
        }
        writer?.arrival = traced.arrival
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
  private func skipRepeated(_ connection: AMQPConnection, _ tap: String, last position: Position) async throws {
    let last = position.number
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
    try await log.note(
      RabbitMQTapLog.State(acknowledged: last, until: position.until, through: position.through), of: key)
    if !isRepeated, tag > 0 {
      // They are others: they come again on a new connection, as the first of the next segment.
      throw BeginsAnew()
    }
  }
}

extension Date {
  /// Since 1970.
  var milliseconds: Int64 { Int64((timeIntervalSince1970 * 1000).rounded(.down)) }
  init(milliseconds: Int64) { self.init(timeIntervalSince1970: Double(milliseconds) / 1000) }
}
