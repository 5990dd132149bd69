package import DRCore
import Foundation
package import Logging
package import NIOCore

/// One queue's messages, read without taking them, as a stream of an archive.
///
/// One connection, one channel, an explicit prefetch, no acknowledgement; then the connection is dropped. Killed at any
/// moment, it is the same: the broker puts everything back in its order. A stream queue is read from an offset, and its
/// acknowledgements take nothing.
package final class QueueDump: Sendable {
  package let queue: RabbitMQQueue
  private let connection: AMQPConnection
  /// Asks how deep the queue is while the first one reads.
  private let side: AMQPConnection
  private let pool = BufferPool(capacity: (1 << 20) + (256 << 10))
  private let state: MutableBox<State>
  private let meter: ProgressMeter?

  private struct State {
    var reading: AMQPConnection.Reading
    var consumers = 0
    /// After how many messages the next consumer is due; nil: there are enough.
    var untilNext: Int?
    /// Whether half of what the last consumer holds is still to come then.
    var isHalfWay = false
    var hasBegun = false
    var isFinished = false
    var hasEnded = false
    var lastNews = ContinuousClock.now

    /// How many messages were here when the queue had no more and the channel was asked something: if nothing came until the
    /// queue is found empty again, nothing was on its way.
    var fencedAt: Int64?

    private var held: Int64 { Int64(consumers * DumpPreflight.prefetch) }
    /// Messages that are wanted and no consumer's yet, where each takes what it can.
    var notHeld: Int64 { (reading.wanted ?? 0) + reading.archive.summary.messages - held }

    mutating func setNext(isHalfWay: Bool) {
      let rest = isHalfWay ? Int64(DumpPreflight.prefetch / 2) : 0
      self.isHalfWay = isHalfWay
      untilNext = Int(max(1, held - rest - reading.archive.summary.messages))
      reading.ofConsumer = 0
    }
  }

  /// How many messages were ready when it began.
  package let ready: Int64

  private init(
    _ queue: RabbitMQQueue, _ connection: AMQPConnection, _ side: AMQPConnection, ready: Int64,
    reading: AMQPConnection.Reading, meter: ProgressMeter?
  ) {
    self.queue = queue
    self.connection = connection
    self.side = side
    self.ready = ready
    self.meter = meter
    state = MutableBox(State(reading: reading))
  }

  /// Begins.
  ///
  /// - Parameters:
  ///   - fromOffset: Of a stream: what lies before it was dumped earlier.
  ///   - wanted: Messages at most; nil: all that are there now.
  package static func begin(
    _ queue: RabbitMQQueue, broker: RabbitMQSettings, brokerVersion: String?, fromOffset: Int64 = 0,
    wanted: Int64? = nil, meter: ProgressMeter? = nil, logger: Logger
  ) async throws -> QueueDump {
    let side = try await AMQPConnection.connect(broker, vhost: queue.vhost, logger: logger)
    do {
      let depth = try await side.depth(of: queue.name, queue.kind)
      let header = MessageArchive.Header(
        vhost: queue.vhost, queue: queue.name, type: queue.kind.rawValue, durable: queue.durable,
        arguments: queue.arguments, broker: broker.host, brokerVersion: brokerVersion,
        captured: Timestamp.format(Date()))
      var reading = AMQPConnection.Reading(archive: try MessageArchiveWriter(header, into: ByteBuffer()))
      var last: Int64?
      if queue.kind == .stream {
        last = try await lastOffset(queue, broker, logger)
        reading.lastOffset = last
        reading.firstOffset = fromOffset
        reading.acknowledgeEach = 500
        reading.isComplete = (last ?? -1) < fromOffset
      } else {
        let most = queue.kind == .quorum ? Int64(DumpPreflight.prefetch * DumpPreflight.consumers) : .max
        let count = min(Int64(depth.ready), wanted ?? .max, most)
        reading.wanted = count
        reading.hasOrderedConsumers = true
        reading.isComplete = count == 0
      }
      let connection = try await AMQPConnection.connect(broker, vhost: queue.vhost, logger: logger)
      return QueueDump(
        queue, connection, side, ready: Int64(depth.ready), reading: reading, meter: meter)
    } catch {
      await side.abort()
      throw error
    }
  }

  /// The offset of a stream's last message; nil if it is empty.
  static func lastOffset(
    _ queue: RabbitMQQueue, _ broker: RabbitMQSettings, _ logger: Logger
  ) async throws -> Int64? {
    let connection = try await AMQPConnection.connect(broker, vhost: queue.vhost, logger: logger)
    var reading = AMQPConnection.Reading(archive: try MessageArchiveWriter(.probe, into: ByteBuffer()), frameSize: .max)
    let prefetch: UInt16 = 1000
    do {
      try await connection.setPrefetch(prefetch)
      try await connection.consume(queue.name, tag: "dr-last", arguments: ["x-stream-offset": .string("last")])
      let depth = try await connection.depth(of: queue.name)
      reading.acknowledgeEach = 1
      // The first message of its last chunk may take a while to come. From then on the broker sends, whenever it does
      // something for the channel, all that there is, up to 1,000 messages that are not acknowledged: if fewer have come before
      // its answer, there were no more. Where publishers go on, what they add is not waited for.
      let deadline = ContinuousClock.now + .seconds(10)
      _ = try await connection.take(
        &reading, idle: depth.ready > 0 ? .seconds(5) : .milliseconds(500), perConsumer: 1)
      var came = reading.ofConsumer == 0 ? 0 : Int(prefetch)
      while came >= Int(prefetch), ContinuousClock.now < deadline {
        let before = reading.ofConsumer
        try await connection.setPrefetch(prefetch)
        while try await connection.take(&reading, idle: .zero) == .full {}
        _ = reading.archive.take(replacing: ByteBuffer())
        came = reading.ofConsumer - before
      }
      await connection.abort()
      return reading.archive.summary.lastOffset
    } catch {
      await connection.abort()
      throw error
    }
  }

  /// The archive; pulled once.
  package var stream: ByteStream {
    ByteStream(recycling: pool) {
      do {
        return try await self.next()
      } catch {
        await self.end()
        throw error
      }
    }
  }

  /// What was read, once the stream has ended.
  package var summary: MessageArchive.Summary { state.value.reading.archive.summary }

  /// Of the bodies of the first hundred messages.
  package var headSHA256: String { state.value.reading.archive.headSHA256 }

  /// Whether what was read, or what is in the queue, may expire.
  package var mayExpire: Bool { queue.limit("message-ttl") != nil || state.value.reading.hasExpiring }

  /// Drops both connections: everything that was read goes back. May be called again.
  package func end() async {
    await connection.abort()
    await side.close()
    state.withLock { $0.hasEnded = true }
  }

  package func next() async throws -> ByteBuffer? {
    var current = state.value
    if current.isFinished {
      await end()
      return nil
    }
    if !current.hasBegun {
      current.hasBegun = true
      current.lastNews = .now
      if !current.reading.isComplete { try await addConsumer(&current) }
    }
    // The storage is this call's alone, so that it is filled in place.
    state.withLock { $0.reading.archive.buffer = ByteBuffer() }
    let before = current.reading.archive.summary.bodyBytes
    while !current.reading.isComplete {
      let taken = try await connection.take(&current.reading, idle: .milliseconds(500), perConsumer: current.untilNext)
      if taken != .idle { current.lastNews = .now }
      if taken == .full || taken == .complete { break }
      if let due = current.untilNext, current.reading.ofConsumer >= due {
        try await nextConsumer(&current)
        continue
      }
      // Others may have consumed what was there.
      if queue.kind != .stream,
        try await side.depth(of: queue.name, queue.kind, hasConsumer: true).ready == 0
      {
        if current.fencedAt == current.reading.archive.summary.messages {
          current.reading.isComplete = true
        } else {
          // Or it was given to this dump just now, and is on its way: before the answer to what the channel is asked next.
          current.fencedAt = current.reading.archive.summary.messages
          try await connection.setPrefetch(1)
        }
      }
      if current.lastNews.duration(to: .now) > connection.settings.timeLimit {
        throw DRError(
          .timedOut, "the queue gives no more messages, and has more",
          advice: "see whether another consumer holds it, and the broker's load", object: queue.title)
      }
    }
    if current.reading.isComplete || (current.reading.archive.buffer.readableBytes < current.reading.frameSize) {
      try current.reading.archive.finish()
      current.isFinished = true
      // The messages go back now, not when all is stored.
      await connection.abort()
    }
    meter?.add(Int(current.reading.archive.summary.bodyBytes - before))
    let full = current.reading.archive.take(replacing: pool.take())
    let kept = current
    state.withLock { $0 = kept }
    return full
  }

  /// Adds a consumer while half of what the last one holds is still to come, so that the broker has something to do.
  ///
  /// Only if the last one holds all that it may: else what comes to the queue would go to both in turn. It does if messages are
  /// ready nevertheless, or when all that it may hold has come.
  private func nextConsumer(_ state: inout State) async throws {
    if state.isHalfWay, try await side.depth(of: queue.name).ready == 0 {
      state.setNext(isHalfWay: false)
    } else {
      try await addConsumer(&state)
    }
  }

  private func addConsumer(_ state: inout State) async throws {
    let left = max(0, state.notHeld)
    let prefetch: UInt16
    switch queue.kind {
    // One consumer takes all that is there; a limit of its own keeps what comes later out, where it can say it.
    case .classic: prefetch = left <= 65_535 ? UInt16(clamping: left) : 0
    case .quorum: prefetch = UInt16(clamping: min(left, Int64(DumpPreflight.prefetch)))
    case .stream: prefetch = 2000
    }
    state.consumers += 1
    // Messages go back in the order of their consumers' tags.
    let number = "\(state.consumers)"
    let tag = "dr-dump-" + String(repeating: "0", count: 3 - number.count) + number
    let isAhead = state.isHalfWay
    state.untilNext = nil
    if queue.kind == .quorum, state.notHeld > 0 { state.setNext(isHalfWay: true) }
    if isAhead { return try await connection.consumeAhead(queue.name, tag: tag, prefetch: prefetch) }
    var arguments: AMQPTable = [:]
    if queue.kind == .stream {
      let first = state.reading.firstOffset
      arguments = ["x-stream-offset": first > 0 ? .int64(first) : .string("first")]
    }
    try await connection.setPrefetch(prefetch)
    try await connection.consume(queue.name, tag: tag, arguments: arguments)
  }
}

extension MessageArchive.Header {
  /// For readings whose archive nobody keeps.
  static let probe = MessageArchive.Header(
    vhost: "", queue: "", type: "", durable: false, arguments: [:], broker: nil, brokerVersion: nil, captured: "")
}
