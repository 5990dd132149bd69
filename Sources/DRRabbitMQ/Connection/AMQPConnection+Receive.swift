import CRabbitMQ
import DRCore
import Foundation
import NIOCore

extension AMQPConnection {
  /// Why a call that takes deliveries returned.
  package enum Taken: Sendable {
    /// The frame is full.
    case full
    /// The wanted number of messages is there.
    case complete
    /// Nothing more came for a while.
    case idle
  }

  /// What a reader of deliveries keeps between calls.
  package struct Reading: Sendable {
    package var archive: MessageArchiveWriter
    /// Bytes of a frame after which a call returns.
    package var frameSize: Int
    /// Whether a frame ends between two messages only: for archives that end where a frame does.
    package var fillsWithWholeMessages = false
    /// Messages still wanted; nil: no end is known.
    package var wanted: Int64?
    /// Of a stream: the offset that ends the reading.
    package var lastOffset: Int64?
    /// Messages of lower offsets come along with the first of a stream's chunk and are not wanted.
    package var firstOffset: Int64 = 0
    /// Acknowledge each so many, as a stream wants it; 0: never, so that nothing is taken.
    package var acknowledgeEach: UInt64 = 0
    /// Messages since this was last set to 0.
    package var ofConsumer = 0
    /// Whether all messages of one consumer must come before those of the next, whose tag is higher.
    package var hasOrderedConsumers = false
    package var isComplete = false
    /// Whether any message had a time to live of its own.
    package var hasExpiring = false
    /// The delivery tag of the last whole message.
    package var lastTag: UInt64 = 0
    /// Whether each message gets the time at which it came.
    package var recordsArrivals = false
    /// What is on its way may have waited since this moment, in milliseconds since 1970; nil: nothing waits.
    package var waitingSince: Int64?
    private var lastArrival: Int64 = 0

    /// A clock that is set back does not make a message older than the one before it.
    fileprivate mutating func noteArrival() {
      lastArrival = max(lastArrival, Self.milliseconds())
      archive.arrival = min(waitingSince ?? lastArrival, lastArrival)...lastArrival
    }

    /// Since 1970.
    static func milliseconds() -> Int64 {
      var now = timespec()
      clock_gettime(CLOCK_REALTIME, &now)
      return Int64(now.tv_sec) * 1000 + Int64(now.tv_nsec) / 1_000_000
    }

    package init(archive: MessageArchiveWriter, frameSize: Int = 1 << 20) {
      self.archive = archive
      self.frameSize = frameSize
    }

    /// For who wants deliveries to happen and not their content: what is gathered is of no queue.
    package static func discarding() throws -> Reading {
      Reading(archive: try MessageArchiveWriter(.probe, into: ByteBuffer()))
    }

    private(set) var consumerTag: [UInt8] = []

    /// - Throws: ``DRError`` with `sourceFailed` for a message of an earlier consumer.
    mutating func follow(_ tag: amqp_bytes_t) throws {
      let bytes = UnsafeRawBufferPointer(start: tag.bytes, count: tag.len)
      guard !consumerTag.elementsEqual(bytes) else { return }
      guard consumerTag.lexicographicallyPrecedes(bytes) else {
        throw DRError(
          .sourceFailed, "the broker gave messages to two consumers of this dump in turn: their order is not known",
          advice: "see whether other consumers or an expiry took messages meanwhile, and try again")
      }
      consumerTag = Array(bytes)
    }

    // The message that is under way.
    var exchange: [UInt8] = []
    var routingKey: [UInt8] = []
    var redelivered = false
    var isHeaderDue = false
    var isSkipped = false
    var missing: UInt64 = 0
    var offset: Int64 = -1

    var isFull: Bool {
      archive.buffer.readableBytes >= frameSize && !(fillsWithWholeMessages && (missing > 0 || isHeaderDue))
    }
  }

  /// Sets how many messages the broker hands out to a consumer without an answer; 0: no limit.
  package func setPrefetch(_ count: UInt16) async throws {
    try await cancellable {
      amqp_basic_qos(try opened.connection, AMQPHandle.channel, 0, count, 0)
      try check("setting the prefetch")
    }
  }

  /// Begins to consume. What is not acknowledged goes back when the connection ends.
  package func consume(
    _ queue: String, tag: String, isExclusive: Bool = false, arguments: AMQPTable = [:]
  ) async throws {
    try await cancellable {
      let handle = try opened
      _ = try handle.withTable(arguments) { table in
        AMQPHandle.withBytes(queue) { queue in
          AMQPHandle.withBytes(tag) { tag in
            amqp_basic_consume(handle.connection, AMQPHandle.channel, queue, tag, 0, 0, isExclusive ? 1 : 0, table)
          }
        }
      }
      try check("consuming from the queue", "\(vhost)/\(queue)")
    }
  }

  /// Asks for one more consumer while messages of another one are on their way; the broker's answers come behind these.
  package func consumeAhead(_ queue: String, tag: String, prefetch: UInt16) async throws {
    try await cancellable {
      let connection = try opened.connection
      let status = AMQPHandle.withBytes(queue) { queue in
        AMQPHandle.withBytes(tag) { dr_amqp_consume_ahead(connection, AMQPHandle.channel, prefetch, queue, $0) }
      }
      guard status == AMQP_STATUS_OK.rawValue else {
        throw DRError(RabbitMQError(status: status), from: settings, doing: "consuming from the queue")
      }
    }
  }

  /// Acknowledges everything up to a delivery.
  package func acknowledge(upTo tag: UInt64) async throws {
    try await cancellable { try sendAcknowledgement(tag) }
  }

  private func sendAcknowledgement(_ tag: UInt64) throws {
    let status = amqp_basic_ack(try opened.connection, AMQPHandle.channel, tag, 1)
    guard status == 0 else {
      throw DRError(RabbitMQError(status: status), from: settings, doing: "acknowledging messages")
    }
  }

  /// Takes deliveries into the archive until a frame is full, all that is wanted is there, or nothing comes for a while.
  /// The async boundary is crossed once a frame, not once a message.
  ///
  /// - Parameters:
  ///   - idle: How long nothing may come.
  ///   - perConsumer: Return also when ``Reading/ofConsumer`` is so many; nil: never.
  ///   - due: Return then as if nothing came, also when something comes all the while; nil: never.
  /// - Throws: ``DRError``: `sourceFailed`; `CancellationError`. The connection is then dropped: the broker puts back
  ///   what it had handed out.
  package func take(
    _ reading: inout Reading, idle: Duration, perConsumer: Int? = nil, until due: ContinuousClock.Instant? = nil
  ) async throws -> Taken {
    try await cancellable {
      try gathering { try takeNow(&reading, idle: idle, perConsumer: perConsumer, until: due) }
    }
  }

  private func takeNow(
    _ reading: inout Reading, idle: Duration, perConsumer: Int?, until due: ContinuousClock.Instant?
  ) throws -> Taken {
    var sinceLook = 0
    // To look at the moment itself costs something for each message.
    let hasDue = due != nil
    while true {
      if reading.isFull { return .full }
      sinceLook += 1
      if sinceLook & 0xFFF == 0, isCancelled.load(ordering: .relaxed) { throw CancellationError() }
      guard let frame = try nextFrame(within: idle) else {
        // In the middle of a message the rest is on its way, or the broker is gone.
        if reading.missing > 0 || reading.isHeaderDue {
          guard try nextFrameIsComing() else {
            throw DRError(.timedOut, "the broker stopped in the middle of a message", object: vhost)
          }
          continue
        }
        return .idle
      }
      switch frame.kind {
      case 1: try begin(frame, &reading)
      case 2: try header(frame, &reading)
      case 3: try body(frame, &reading)
      default: break
      }
      guard !reading.isHeaderDue, reading.missing == 0, frame.kind != 1 else { continue }
      try release()
      if reading.acknowledgeEach > 0, reading.lastTag % reading.acknowledgeEach == 0 {
        try sendAcknowledgement(reading.lastTag)
      }
      if reading.isComplete { return .complete }
      if let perConsumer, reading.ofConsumer >= perConsumer { return .idle }
      if hasDue, let due, ContinuousClock.now >= due { return .idle }
    }
  }

  private func nextFrameIsComing() throws -> Bool {
    let deadline = ContinuousClock.now + settings.timeLimit
    while ContinuousClock.now < deadline {
      let connection = try opened.connection
      if amqp_frames_enqueued(connection) != 0 || amqp_data_in_buffer(connection) != 0 {
        return true
      }
      if isCancelled.load(ordering: .relaxed) { throw CancellationError() }
      var descriptor = pollfd(fd: amqp_get_sockfd(try opened.connection), events: Int16(POLLIN), revents: 0)
      if poll(&descriptor, 1, 100) > 0 { return true }
    }
    return false
  }

  private func begin(_ frame: dr_amqp_frame, _ reading: inout Reading) throws {
    guard frame.method == dr_amqp_basic_deliver, let decoded = frame.decoded else {
      if frame.method == dr_amqp_basic_cancel {
        throw DRError(
          .sourceFailed, "the broker ended the consumer: the queue was deleted, or moved to another node",
          advice: "try again", object: vhost)
      }
      return
    }
    let deliver = decoded.assumingMemoryBound(to: amqp_basic_deliver_t.self).pointee
    if reading.hasOrderedConsumers { try reading.follow(deliver.consumer_tag) }
    reading.exchange.replace(with: deliver.exchange)
    reading.routingKey.replace(with: deliver.routing_key)
    reading.redelivered = deliver.redelivered != 0
    reading.lastTag = deliver.delivery_tag
    reading.isHeaderDue = true
  }

  private func header(_ frame: dr_amqp_frame, _ reading: inout Reading) throws {
    guard reading.isHeaderDue else { return }
    reading.isHeaderDue = false
    let raw = UnsafeRawBufferPointer(start: frame.bytes, count: frame.length)
    guard let decoded = frame.decoded else { throw DRError(.malformedData, "a message came without properties") }
    let properties = decoded.assumingMemoryBound(to: amqp_basic_properties_t.self)
    let flags = properties.pointee._flags
    reading.offset = -1
    if flags & AMQPFlag.headers != 0 {
      var headers = properties.pointee.headers
      reading.offset = dr_amqp_integer_header(&headers, "x-stream-offset")
      let count = dr_amqp_integer_header(&headers, "x-delivery-count")
      if count >= 0 { reading.archive.note(deliveryCount: count) }
    }
    reading.isSkipped = reading.offset >= 0 && reading.offset < reading.firstOffset
    reading.missing = frame.body_size
    if !reading.isSkipped {
      if flags & AMQPFlag.expiration != 0 { reading.hasExpiring = true }
      if flags & AMQPFlag.timestamp != 0 {
        reading.archive.note(timestamp: Int64(clamping: properties.pointee.timestamp))
      }
      if reading.offset >= 0 { reading.archive.note(offset: reading.offset) }
      if reading.recordsArrivals { reading.noteArrival() }
      let redelivered = reading.redelivered
      try reading.exchange.withUnsafeBytes { exchange in
        try reading.routingKey.withUnsafeBytes { key in
          try reading.archive.begin(
            exchange: exchange, routingKey: key, redelivered: redelivered, properties: raw, bodySize: frame.body_size)
        }
      }
    }
    if reading.missing == 0 { finish(&reading) }
  }

  private func body(_ frame: dr_amqp_frame, _ reading: inout Reading) throws {
    guard reading.missing > 0 else { return }
    reading.missing -= min(reading.missing, UInt64(frame.length))
    if !reading.isSkipped {
      try reading.archive.append(UnsafeRawBufferPointer(start: frame.bytes, count: frame.length))
    }
    if reading.missing == 0 { finish(&reading) }
  }

  private func finish(_ reading: inout Reading) {
    reading.ofConsumer += 1
    if let last = reading.lastOffset { reading.isComplete = reading.offset >= last }
    if let wanted = reading.wanted, !reading.isSkipped {
      reading.wanted = wanted - 1
      reading.isComplete = wanted <= 1
    }
  }
}

extension [UInt8] {
  /// Keeps the storage: this runs once a message.
  fileprivate mutating func replace(with bytes: amqp_bytes_t) {
    removeAll(keepingCapacity: true)
    append(contentsOf: UnsafeRawBufferPointer(start: bytes.bytes, count: bytes.len))
  }
}

/// Which properties a message has: C macros with shifts, which Swift does not import.
enum AMQPFlag {
  static let headers: amqp_flags_t = 1 << 13
  static let expiration: amqp_flags_t = 1 << 8
  static let messageID: amqp_flags_t = 1 << 7
  static let timestamp: amqp_flags_t = 1 << 6
  static let userID: amqp_flags_t = 1 << 4
}
