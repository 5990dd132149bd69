import DRCore
package import NIOCore

/// Makes segments of a replication stream: pure.
///
/// A segment ends between commands and outside of transactions, so that a cut at any of its batches is a state that the
/// server was in, as its clients see it.
package struct ChangeAssembler: Sendable {
  /// Bytes of a command or a transaction that is not whole yet, at most.
  private static let pendingLimit = 512 << 20

  /// A segment that is whole, or what there is of one.
  package struct Piece: Hashable, Sendable {
    package var segment: ChangeSegment
    package var bytes: ByteBuffer
    /// When its last batch arrived.
    package var arrival: Int64
    /// The line of the log that it belongs to.
    package var line = ""
  }

  private let size: Int
  private var history: String
  private var scanner = ReplicationCommandScanner()
  private var isInTransaction = false
  private var database: Int
  /// The database at the start of the next batch.
  private var batchDatabase: Int
  /// What belongs to no batch yet.
  private var pending = ByteBuffer()
  private var segment = ByteBuffer()
  private var segmentStart: Int64
  private var second: Int64 = -1
  private var lastArrival: Int64 = 0
  /// Of the next batch, as far as it is known, and whether the last one had any.
  private var delay: ChangeBatch.Delay?
  private var wasLate = false
  private var beginsAnew: Bool
  /// The offset through which everything is in a batch.
  package private(set) var end: Int64

  /// - Parameters:
  ///   - size: Raw bytes after which a segment is full.
  ///   - catchesUp: Whether something may have happened before, without a connection.
  ///   - beginsAnew: Whether it follows a snapshot and nothing else.
  package init(
    at position: ReplicationPosition, database: Int = 0, size: Int, catchesUp: Bool = false, beginsAnew: Bool = false
  ) {
    self.size = size
    history = position.history
    (self.database, batchDatabase) = (database, database)
    (segmentStart, end) = (position.offset, position.offset)
    delay = catchesUp ? .begins(since: nil) : nil
    self.beginsAnew = beginsAnew
  }

  package var position: ReplicationPosition { ReplicationPosition(history: history, offset: end) }

  /// The offset through which bytes were taken.
  package var received: Int64 { end + Int64(pending.readableBytes) }

  /// Whether a segment is due to be stored.
  package var isFull: Bool { segment.readableBytes >= size }

  /// Takes bytes that arrived at a moment, in milliseconds since 1970.
  ///
  /// - Parameters:
  ///   - isLate: Whether they waited at the server.
  ///   - since: Of the first that did, since when, in milliseconds since 1970; nil: since the batch before.
  /// - Returns: Whether the server asks for an acknowledgement now.
  /// - Throws: ``DRError`` with `malformedData`; also for a transaction of over 512 MiB.
  package mutating func append(
    _ bytes: ByteBuffer, at moment: Int64, isLate: Bool = false, since: Int64? = nil
  ) throws -> Bool {
    if isLate, delay == nil { delay = wasLate && since == nil ? .goesOn : .begins(since: since) }
    var isAsked = false
    var whole = 0
    var databaseAfter = batchDatabase
    try bytes.withUnsafeReadableBytes { raw in
      try scanner.scan(raw) { command, _, end in
        switch command {
        case .select(let number): database = number
        case .multi: isInTransaction = true
        case .exec: isInTransaction = false
        case .replconf: isAsked = true
        default: break
        }
        if !isInTransaction {
          whole = end
          databaseAfter = database
        }
      }
    }
    let before = pending.readableBytes
    if whole > 0 {
      // A clock that was set back does not make the log go back.
      lastArrival = max(lastArrival, moment)
      note(count: before + whole)
      segment.writeBuffer(&pending)
      pending = ByteBuffer()
      var rest = bytes
      if var taken = rest.readSlice(length: whole) { segment.writeBuffer(&taken) }
      if rest.readableBytes > 0 { pending = ByteBuffer(bytes: rest.readableBytesView) }
      end += Int64(before + whole)
      batchDatabase = databaseAfter
    } else {
      guard before + bytes.readableBytes <= ChangeAssembler.pendingLimit else {
        throw DRError(
          .malformedData, "a command or a transaction of over \(ChangeAssembler.pendingLimit) bytes",
          advice: "take a new snapshot")
      }
      pending.writeImmutableBuffer(bytes)
    }
    return isAsked
  }

  /// What there is of the segment, without ending it; nil if there is nothing.
  package func partial() -> Piece? {
    guard end > segmentStart else { return nil }
    return Piece(
      segment: ChangeSegment(start: segmentStart, end: end, history: history), bytes: segment, arrival: lastArrival)
  }

  /// Ends the segment and begins the next; nil if there is nothing in it.
  package mutating func seal() -> Piece? {
    let piece = partial()
    segment = ByteBuffer()
    segmentStart = end
    second = -1
    if piece != nil { beginsAnew = false }
    return piece
  }

  /// Goes on after a lost connection: what was not whole comes again, maybe under another ID, for which the caller has
  /// sealed the segment.
  package mutating func resume(under history: String) {
    self.history = history
    scanner = ReplicationCommandScanner()
    isInTransaction = false
    database = batchDatabase
    pending = ByteBuffer()
    delay = .begins(since: nil)
  }

  /// What follows comes under another ID, on the same connection; the caller has sealed the segment.
  package mutating func goOn(under history: String) { self.history = history }

  private mutating func note(count: Int) {
    if segment.readableBytes == 0 {
      segment.writeString(ChangeSegmentFormat.header(position, beginsAnew: beginsAnew))
    }
    if lastArrival / 1000 != second {
      second = lastArrival / 1000
      segment.writeString(ChangeSegmentFormat.second(lastArrival))
    }
    segment.writeString(
      ChangeSegmentFormat.batch(
        start: end, arrival: lastArrival, database: batchDatabase, count: count, delay: delay))
    wasLate = delay != nil
    delay = nil
  }
}
