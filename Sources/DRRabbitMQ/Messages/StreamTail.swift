import DRCore
import Logging
import NIOCore

/// The last messages of a stream's dump: by them the next dump tells whether the stream is still the same one.
///
/// A stream that was deleted and made anew counts its offsets from 0 again, so offsets alone say nothing.
package struct StreamTail: Codable, Hashable, Sendable {
  /// Offsets.
  package var first: Int64
  package var last: Int64
  /// Of the messages with their properties, as an archive holds them.
  package var sha256: String

  private static let length: Int64 = 100

  /// Reads the tail that ends at an offset; nil if the stream does not hold that any more.
  static func read(
    of queue: RabbitMQQueue, endingAt last: Int64, from first: Int64? = nil, _ broker: RabbitMQSettings,
    _ logger: Logger
  ) async throws -> StreamTail? {
    let first = first ?? max(0, last - length + 1)
    let connection = try await AMQPConnection.connect(broker, vhost: queue.vhost, logger: logger)
    do {
      var reading = AMQPConnection.Reading(
        archive: try MessageArchiveWriter(.probe, into: ByteBuffer()), frameSize: 64 << 10)
      reading.firstOffset = first
      reading.lastOffset = last
      reading.acknowledgeEach = 1
      var digest = StreamDigest()
      try await connection.setPrefetch(1000)
      try await connection.consume(queue.name, tag: "dr-tail", arguments: ["x-stream-offset": .int64(first)])
      var taken = AMQPConnection.Taken.full
      while taken == .full {
        taken = try await connection.take(&reading, idle: .seconds(5))
        digest.update(reading.archive.take(replacing: ByteBuffer()))
      }
      await connection.abort()
      let summary = reading.archive.summary
      guard let start = summary.firstOffset, summary.lastOffset == last else { return nil }
      return StreamTail(first: start, last: last, sha256: digest.hex())
    } catch {
      await connection.abort()
      throw error
    }
  }

  /// Whether a stream is the one of which this is the tail: not made anew since. What retention has taken of the tail cannot be
  /// compared: with all of it gone, all that there is came later, whichever stream it is.
  func isStillOf(_ queue: RabbitMQQueue, _ broker: RabbitMQSettings, _ logger: Logger) async throws -> Bool {
    guard let end = try await QueueDump.lastOffset(queue, broker, logger), end >= last else { return false }
    guard let now = try await StreamTail.read(of: queue, endingAt: last, from: first, broker, logger) else {
      return true
    }
    return now == self
  }
}
