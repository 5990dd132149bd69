package import DRCore
import Foundation
package import NIOCore

/// The format of a queue's messages in a backup, version 1: a stream that is written and read in one pass, with an
/// index at its end for who can seek.
///
/// All numbers are unsigned and big-endian.
///
///     8 bytes      "DRRMQ1\r\n"
///     record …     4 bytes length of what follows, 1 byte kind, then:
///       'H'        JSON: the queue, its broker, when the capture began. The first record, once
///       'M'        a message:
///                    1 byte    flags: bit 0 the broker had delivered it before
///                    8 bytes   its number in the archive, from 0
///                    1 byte    length of the exchange's name, the name
///                    1 byte    length of the routing key, the key
///                    4 bytes   length of the properties, the properties as AMQP 0-9-1 encodes them (section 4.2.6.1:
///                              the flags, then the values): every type and header as the broker gave it
///                    …         the body, to the end of the record
///       'I'        4 bytes interval, then 8 bytes for each interval-th message: where its record starts, counted from
///                  the start of the archive. After the last message, once
///       'E'        JSON: how many messages, bytes of bodies, first and last times. The last record, once
///     16 bytes     8 bytes where the 'I' record starts, then "DRRMQEND"
///
/// Version 2, which a tap writes, begins with "DRRMQ2\r\n" and knows one more record:
///
///       'T'        8 bytes, 8 bytes: of the messages that follow, up to the next one of these, the earliest and the latest moment
///                  at which they can have come to the tap's queue, in milliseconds since 1970. The earliest is 0 where it is
///                  not known. Before the first message, and before each of which the index tells, which then tells of this
///
/// An archive without its end is not whole. A later major version changes the first eight bytes.
package enum MessageArchive {
  static let magic = "DRRMQ1\r\n"
  static let magicOfTap = "DRRMQ2\r\n"
  static let end = "DRRMQEND"
  static let indexInterval = 1000
  /// Bytes of a record, at most: RabbitMQ's largest message (512 MiB) and what belongs to it.
  static let recordLimit = 600 << 20

  enum Kind {
    static let header = UInt8(ascii: "H")
    static let message = UInt8(ascii: "M")
    static let arrival = UInt8(ascii: "T")
    static let index = UInt8(ascii: "I")
    static let end = UInt8(ascii: "E")
  }

  /// What the first record says.
  package struct Header: Codable, Hashable, Sendable {
    package var vhost: String
    package var queue: String
    /// `classic`, `quorum` or `stream`.
    package var type: String
    package var durable: Bool
    /// The queue's arguments, as the management API gives them.
    package var arguments: [String: JSONValue]
    package var broker: String?
    package var brokerVersion: String?
    /// ISO 8601.
    package var captured: String
    /// Of a tap's segment: the SHA-256 of the one before it; nil: it is the first, or of an earlier version.
    package var previous: String?

    package init(
      vhost: String, queue: String, type: String, durable: Bool, arguments: [String: JSONValue], broker: String?,
      brokerVersion: String?, captured: String
    ) {
      self.vhost = vhost
      self.queue = queue
      self.type = type
      self.durable = durable
      self.arguments = arguments
      self.broker = broker
      self.brokerVersion = brokerVersion
      self.captured = captured
    }
  }

  /// What the last record says, and what a manifest says of a queue.
  package struct Summary: Codable, Hashable, Sendable {
    package var messages: Int64 = 0
    package var bodyBytes: Int64 = 0
    package var redelivered: Int64 = 0
    /// Of the messages' own timestamps, seconds since 1970: the earliest and the latest.
    package var firstTimestamp: Int64?
    package var lastTimestamp: Int64?
    /// Of a stream.
    package var firstOffset: Int64?
    package var lastOffset: Int64?
    /// The highest `x-delivery-count` that was seen: how often a message had been returned before.
    package var highestDeliveryCount: Int64?
  }
}

/// Writes an archive into frames, message by message, from pieces as they come from the wire.
package struct MessageArchiveWriter: Sendable {
  /// What is ready to be taken.
  package var buffer: ByteBuffer
  /// When the messages that are added next came to a tap, in milliseconds since 1970: of archives that record it.
  package var arrival: ClosedRange<Int64>?
  private let recordsArrivals: Bool
  private var recordedArrival: ClosedRange<Int64>?
  package private(set) var summary = MessageArchive.Summary()
  private var index: [UInt64] = []
  /// Bytes taken before ``buffer``.
  private var taken: UInt64 = 0
  /// Of the bodies of the first messages: whether they are still the first, and in their order, can be told by it.
  private var headDigest = StreamDigest()
  static let headMessages: Int64 = 100
  package var headSHA256: String { headDigest.hex() }
  /// Bytes of the current message's body that are still to come.
  private(set) var missing: UInt64 = 0

  /// - Parameter recordsArrivals: Whether ``arrival`` is kept: version 2.
  package init(_ header: MessageArchive.Header, into buffer: ByteBuffer, recordsArrivals: Bool = false) throws {
    self.buffer = buffer
    self.recordsArrivals = recordsArrivals
    self.buffer.writeString(recordsArrivals ? MessageArchive.magicOfTap : MessageArchive.magic)
    writeRecord(MessageArchive.Kind.header, try Self.json(header))
  }

  /// Takes what is there and goes on with an empty buffer.
  package mutating func take(replacing empty: ByteBuffer) -> ByteBuffer {
    var full = empty
    swap(&full, &buffer)
    taken += UInt64(full.readableBytes)
    return full
  }

  private static func json(_ value: some Encodable) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return Array(try encoder.encode(value))
  }

  private mutating func writeRecord(_ kind: UInt8, _ bytes: [UInt8]) {
    buffer.writeInteger(UInt32(bytes.count + 1))
    buffer.writeInteger(kind)
    buffer.writeBytes(bytes)
  }

  /// Begins a message; its body follows in pieces.
  mutating func begin(
    exchange: UnsafeRawBufferPointer, routingKey: UnsafeRawBufferPointer, redelivered: Bool,
    properties: UnsafeRawBufferPointer, bodySize: UInt64
  ) throws {
    let length = UInt64(1 + 1 + 8 + 1 + exchange.count + 1 + routingKey.count + 4 + properties.count) + bodySize
    guard length <= UInt64(MessageArchive.recordLimit), exchange.count < 256, routingKey.count < 256 else {
      throw DRError(.malformedData, "a message of \(bodySize) bytes is larger than an archive can hold")
    }
    let isIndexed = summary.messages % Int64(MessageArchive.indexInterval) == 0
    if isIndexed { index.append(taken + UInt64(buffer.readableBytes)) }
    if recordsArrivals, let arrival, isIndexed || arrival != recordedArrival {
      buffer.writeMultipleIntegers(
        UInt32(17), MessageArchive.Kind.arrival, arrival.lowerBound, arrival.upperBound)
      recordedArrival = arrival
    }
    buffer.writeMultipleIntegers(
      UInt32(length), MessageArchive.Kind.message, UInt8(redelivered ? 1 : 0), UInt64(summary.messages),
      UInt8(exchange.count))
    buffer.writeBytes(exchange)
    buffer.writeInteger(UInt8(routingKey.count))
    buffer.writeBytes(routingKey)
    buffer.writeInteger(UInt32(properties.count))
    buffer.writeBytes(properties)
    missing = bodySize
    summary.messages += 1
    summary.bodyBytes += Int64(bodySize)
    if redelivered { summary.redelivered += 1 }
  }

  /// Adds a piece of the current message's body.
  mutating func append(_ piece: UnsafeRawBufferPointer) throws {
    guard UInt64(piece.count) <= missing else {
      throw DRError(.malformedData, "the broker sent more of a message's body than it had said")
    }
    missing -= UInt64(piece.count)
    if summary.messages <= Self.headMessages { headDigest.update(piece) }
    buffer.writeBytes(piece)
  }

  mutating func note(timestamp: Int64) {
    summary.firstTimestamp = min(summary.firstTimestamp ?? timestamp, timestamp)
    summary.lastTimestamp = max(summary.lastTimestamp ?? timestamp, timestamp)
  }

  mutating func note(offset: Int64) {
    if summary.firstOffset == nil { summary.firstOffset = offset }
    summary.lastOffset = offset
  }

  mutating func note(deliveryCount: Int64) {
    summary.highestDeliveryCount = max(summary.highestDeliveryCount ?? 0, deliveryCount)
  }

  /// Writes the index and the end.
  package mutating func finish() throws {
    guard missing == 0 else { throw DRError(.truncatedData, "the archive ends within a message") }
    let start = taken + UInt64(buffer.readableBytes)
    buffer.writeInteger(UInt32(1 + 4 + index.count * 8))
    buffer.writeInteger(MessageArchive.Kind.index)
    buffer.writeInteger(UInt32(MessageArchive.indexInterval))
    for offset in index { buffer.writeInteger(offset) }
    writeRecord(MessageArchive.Kind.end, try Self.json(summary))
    buffer.writeInteger(start)
    buffer.writeString(MessageArchive.end)
  }
}

extension MessageArchiveWriter {
  /// Adds a whole message.
  package mutating func add(_ message: ArchivedMessage, exchange: String, routingKey: String) throws {
    var (exchange, routingKey) = (exchange, routingKey)
    try exchange.withUTF8 { exchange in
      try routingKey.withUTF8 { key in
        try message.properties.withUnsafeReadableBytes { properties in
          try begin(
            exchange: UnsafeRawBufferPointer(exchange), routingKey: UnsafeRawBufferPointer(key),
            redelivered: message.redelivered, properties: properties, bodySize: UInt64(message.body.readableBytes))
        }
      }
    }
    try message.body.withUnsafeReadableBytes { try append($0) }
  }
}
