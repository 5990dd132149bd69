import DRCore
import NIOCore

/// The data set, on its way from where it comes to who stores it, read as an RDB file in passing.
final class PayloadStream: Sendable {
  private let next: @Sendable () async throws -> ByteBuffer?
  private let scanner: MutableBox<RDBScanner>
  private let outcome = MutableBox<RDBSummary?>(nil)
  private let meter: ProgressMeter?
  private let check: @Sendable (RDBSummary) throws -> Void

  /// - Parameters:
  ///   - next: Gives the next piece, or nil at the end, after which it is not called again.
  ///   - check: Called with what was read, before the stream ends: what it throws, the stream throws.
  init(
    object: String, meter: ProgressMeter?, next: @escaping @Sendable () async throws -> ByteBuffer?,
    check: @escaping @Sendable (RDBSummary) throws -> Void
  ) {
    scanner = MutableBox(RDBScanner(object: object))
    self.meter = meter
    self.next = next
    self.check = check
  }

  /// What was read, once the stream has ended.
  var summary: RDBSummary? { outcome.value }

  /// The bytes, for one consumer. The end comes only after the file was found whole and right.
  var content: ByteStream {
    ByteStream { [self] in
      guard outcome.value == nil else { return nil }
      if let piece = try await next() {
        try scanner.withLock { try $0.scan(piece) }
        meter?.add(piece.readableBytes)
        return piece
      }
      let summary = try scanner.withLock { try $0.finish() }
      try check(summary)
      outcome.withLock { $0 = summary }
      meter?.finish()
      return nil
    }
  }
}
