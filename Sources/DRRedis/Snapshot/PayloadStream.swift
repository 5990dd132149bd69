import DRCore
import NIOCore

/// The data set of a full synchronisation, on its way from the socket to who stores it, read as an RDB file in passing.
///
/// It holds a few megabytes at most: a slow consumer slows the server's sending down, while the heartbeat goes on.
final class PayloadStream: Sendable {
  private let channel = BoundedChannel<ByteBuffer>(capacity: 16)
  private let scanner: MutableBox<RDBScanner>
  private let outcome = MutableBox<RDBSummary?>(nil)
  private let meter: ProgressMeter?
  private let check: @Sendable (RDBSummary) throws -> Void

  /// - Parameter check: Called with what was read, before the stream ends: what it throws, the stream throws.
  init(object: String, meter: ProgressMeter?, check: @escaping @Sendable (RDBSummary) throws -> Void) {
    scanner = MutableBox(RDBScanner(object: object))
    self.meter = meter
    self.check = check
  }

  /// What was read, once the stream has ended.
  var summary: RDBSummary? { outcome.value }

  /// Takes a piece. Returns false when the consumer has gone.
  func send(_ piece: ByteBuffer) async -> Bool { await channel.send(piece) }

  func finish(throwing error: (any Error)? = nil) { channel.finish(throwing: error) }

  /// Ends without an end: the consumer is told that it was cancelled.
  func close() { channel.close() }

  /// The bytes, for one consumer. The end comes only after the file was found whole and right.
  var content: ByteStream {
    ByteStream { [self] in
      if let piece = try await channel.receive() {
        try scanner.withLock { try $0.scan(piece) }
        meter?.add(piece.readableBytes)
        return piece
      }
      guard outcome.value == nil else { return nil }
      let summary = try scanner.withLock { try $0.finish() }
      try check(summary)
      outcome.withLock { $0 = summary }
      meter?.finish()
      return nil
    }
  }
}
