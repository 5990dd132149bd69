package import DRCore
import Foundation
package import NIOCore

/// A message of an archive; its parts share the archive's memory.
package struct ArchivedMessage: Sendable {
  package var number: UInt64
  package var redelivered: Bool
  package var exchange: String
  package var routingKey: ByteBuffer
  /// As AMQP encodes them.
  package var properties: ByteBuffer
  package var body: ByteBuffer
  /// Of a tap's segment: the earliest and the latest moment at which it can have come to the tap, in milliseconds since 1970.
  package var arrival: ClosedRange<Int64>?

  package init(
    number: UInt64, redelivered: Bool, exchange: String, routingKey: ByteBuffer, properties: ByteBuffer,
    body: ByteBuffer
  ) {
    self.number = number
    self.redelivered = redelivered
    self.exchange = exchange
    self.routingKey = routingKey
    self.properties = properties
    self.body = body
  }

  /// - Throws: ``DRError`` with `malformedData`.
  package func decodedProperties() throws -> AMQPProperties {
    var bytes = properties
    do {
      return try AMQPProperties(decoding: &bytes)
    } catch {
      throw DRError(.malformedData, "the properties of message \(number) are not AMQP: \(error)")
    }
  }
}

/// Reads an archive from its bytes as they come: pure, no I/O.
package struct MessageArchiveReader: Sendable {
  package enum Event: Sendable {
    case header(MessageArchive.Header)
    case message(ArchivedMessage)
    /// The archive is whole.
    case end(MessageArchive.Summary)
  }

  private enum Phase {
    case magic, header, records, afterIndex, trailer, ended
  }

  private let object: String
  private var phase = Phase.magic
  private var pending = ByteBuffer()
  private var next: UInt64 = 0
  private var indexStart: UInt64 = 0
  private var offset: UInt64 = 0
  private var summary: MessageArchive.Summary?
  /// Of version 2.
  private var hasArrivals = false
  private var arrival: ClosedRange<Int64>?

  /// - Parameter object: Named in errors.
  package init(object: String) { self.object = object }

  package mutating func feed(_ bytes: ByteBuffer) {
    if pending.readableBytes == 0 {
      pending = bytes
    } else {
      // What is left of the last frame is copied once; the frames of messages that were given out stay as they are.
      var joined = ByteBufferAllocator().buffer(capacity: pending.readableBytes + bytes.readableBytes)
      joined.writeImmutableBuffer(pending)
      joined.writeImmutableBuffer(bytes)
      pending = joined
    }
  }

  /// How many more bytes the next record needs, at least, where that is known: for who reads large messages.
  package var needed: Int {
    guard let length = pending.getInteger(at: pending.readerIndex, as: UInt32.self) else { return 1 }
    return max(1, Int(length) + 4 - pending.readableBytes)
  }

  /// The next event, or nil when more bytes are needed.
  ///
  /// - Throws: ``DRError``: `malformedData`, `unsupportedVersion`.
  package mutating func event() throws -> Event? {
    while true {
      switch phase {
      case .magic:
        guard let magic = pending.readString(length: 8) else { return nil }
        hasArrivals = magic == MessageArchive.magicOfTap
        guard hasArrivals || magic == MessageArchive.magic else {
          if magic.hasPrefix("DRRMQ"), magic.hasSuffix("\r\n") {
            throw DRError(
              .unsupportedVersion, "the archive of messages is of a later version",
              advice: "read it with a later version of this library", object: object)
          }
          throw malformed("it does not begin as an archive of messages does")
        }
        offset = 8
        phase = .header
      case .header:
        guard var record = try record() else { return nil }
        guard record.readInteger(as: UInt8.self) == MessageArchive.Kind.header else {
          throw malformed("its first record is no header")
        }
        phase = .records
        return .header(try json(record))
      case .records:
        let start = offset
        guard var record = try record() else { return nil }
        switch record.readInteger(as: UInt8.self) {
        case MessageArchive.Kind.message: return .message(try message(&record))
        case MessageArchive.Kind.arrival where hasArrivals:
          guard let (from, until) = record.readMultipleIntegers(as: (Int64, Int64).self), from <= until,
            record.readableBytes == 0
          else { throw malformed("it holds times that are none") }
          arrival = from...until
        case MessageArchive.Kind.index:
          indexStart = start
          phase = .afterIndex
        case .some(let kind): throw malformed("it holds a record of the unknown kind \(kind)")
        case nil: throw malformed("it holds an empty record")
        }
      case .afterIndex:
        guard var record = try record() else { return nil }
        guard record.readInteger(as: UInt8.self) == MessageArchive.Kind.end else {
          throw malformed("its index is not followed by its end")
        }
        let summary: MessageArchive.Summary = try json(record)
        guard summary.messages == Int64(clamping: next) else {
          throw malformed("it holds \(next) messages, and says that it holds \(summary.messages)")
        }
        self.summary = summary
        phase = .trailer
      case .trailer:
        guard pending.readableBytes >= 16 else { return nil }
        guard pending.readInteger(as: UInt64.self) == indexStart, pending.readString(length: 8) == MessageArchive.end,
          let summary
        else { throw malformed("its last bytes are wrong") }
        phase = .ended
        return .end(summary)
      case .ended:
        guard pending.readableBytes == 0 else { throw malformed("something follows its end") }
        return nil
      }
    }
  }

  /// Call at the end of the bytes.
  ///
  /// - Throws: ``DRError`` with `truncatedData` if the archive is not whole.
  package func finish() throws {
    guard phase == .ended else {
      throw DRError(
        .truncatedData, "the archive of messages is cut off after \(next) messages",
        advice: "choose another backup, or restore what is there", object: object)
    }
  }

  private mutating func record() throws -> ByteBuffer? {
    guard let length = pending.getInteger(at: pending.readerIndex, as: UInt32.self) else { return nil }
    guard (1...UInt32(MessageArchive.recordLimit)).contains(length) else {
      throw malformed("it holds a record of \(length) bytes")
    }
    guard pending.readableBytes >= Int(length) + 4 else { return nil }
    pending.moveReaderIndex(forwardBy: 4)
    offset += UInt64(length) + 4
    return pending.readSlice(length: Int(length))
  }

  private mutating func message(_ record: inout ByteBuffer) throws -> ArchivedMessage {
    guard let (flags, number, exchangeLength) = record.readMultipleIntegers(as: (UInt8, UInt64, UInt8).self),
      number == next,
      let exchange = record.readString(length: Int(exchangeLength)),
      let keyLength = record.readInteger(as: UInt8.self), let key = record.readSlice(length: Int(keyLength)),
      let length = record.readInteger(as: UInt32.self), let properties = record.readSlice(length: Int(length))
    else { throw malformed("message \(next) is not of this format") }
    next += 1
    var message = ArchivedMessage(
      number: number, redelivered: flags & 1 != 0, exchange: exchange, routingKey: key, properties: properties,
      body: record)
    message.arrival = arrival
    return message
  }

  private func json<Value: Decodable>(_ record: ByteBuffer) throws -> Value {
    do {
      return try JSONDecoder().decode(Value.self, from: Data(record.readableBytesView))
    } catch {
      throw malformed("a record of it is no JSON of its kind")
    }
  }

  private func malformed(_ what: String) -> DRError {
    DRError(
      .malformedData, "the archive of messages is damaged: \(what)", advice: "choose another backup", object: object)
  }
}

extension MessageArchiveReader {
  /// Reads a whole archive, event by event.
  package static func read(
    _ stream: ByteStream, object: String, _ body: (Event) async throws -> Void
  ) async throws {
    var reader = MessageArchiveReader(object: object)
    var gathered = ByteBuffer()
    var wanted = 1
    for try await frame in stream {
      // A message that is larger than a frame is gathered first, and copied once.
      if gathered.readableBytes == 0 { gathered = frame } else { gathered.writeImmutableBuffer(frame) }
      guard gathered.readableBytes >= wanted else { continue }
      reader.feed(gathered)
      gathered = ByteBuffer()
      while let event = try reader.event() { try await body(event) }
      wanted = reader.needed
    }
    if gathered.readableBytes > 0 {
      reader.feed(gathered)
      while let event = try reader.event() { try await body(event) }
    }
    try reader.finish()
  }
}
