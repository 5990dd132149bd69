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
  /// Samples at most.
  private static let most = 10

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

  /// Messages of a dump besides its tail: its first hundred, and a few at a third and at two thirds of it.
  static func samples(
    of queue: RabbitMQQueue, _ summary: MessageArchive.Summary, before: [StreamTail], _ broker: RabbitMQSettings,
    _ logger: Logger
  ) async throws -> [StreamTail] {
    var samples = before
    guard let first = summary.firstOffset, let last = summary.lastOffset, last > first else { return samples }
    var ranges = [first...min(last, first + length - 1)]
    if last - first > length * 3 {
      ranges += [1, 2].map { first + (last - first) / 3 * $0 }.map { $0...$0 + 19 }
    }
    for range in ranges {
      let sample = try await read(of: queue, endingAt: range.upperBound, from: range.lowerBound, broker, logger)
      if let sample, sample.first == range.lowerBound { samples.append(sample) }
    }
    // Retention takes the first ones first.
    return samples.suffix(most)
  }

  /// Whether a stream is the one of which this is the tail: not made anew since, as far as it can be known. The broker gives a stream no
  /// mark of its own by the management API or AMQP; so messages are compared: the tail, and samples from the beginning on. What
  /// retention has taken cannot be compared: with all of the tail gone, all that there is came later, whichever stream it is.
  func isStillOf(
    _ queue: RabbitMQQueue, samples: [StreamTail], _ broker: RabbitMQSettings, _ logger: Logger
  ) async throws -> Bool {
    guard let end = try await QueueDump.lastOffset(queue, broker, logger), end >= last else { return false }
    for sample in samples {
      guard let now = try await StreamTail.read(of: queue, endingAt: sample.last, from: sample.first, broker, logger),
        now.first == sample.first
      else { continue }
      if now != sample { return false }
    }
    guard let now = try await StreamTail.read(of: queue, endingAt: last, from: first, broker, logger) else {
      return true
    }
    return now == self
  }
}
