import DRCore
import Foundation
import Logging
import NIOCore

/// One `START_REPLICATION`: takes the log from the server, has it stored, and says to the server what is durable.
///
/// Storing goes on beside receiving, one piece at a time, so that a slow tier does not keep the server's questions waiting;
/// with one full segment waiting it takes no more.
final class WALStream {
  enum End {
    /// The log goes on elsewhere.
    case timeline(UInt32, fork: LSN)
    /// The server shuts down.
    case server
  }

  /// What the connection's thread fills.
  private struct Wire: Sendable {
    var log: WALAssembler
    /// Where the server's log ended when it last sent some of it.
    var serverEnd: LSN
    /// The server's clock when it had nothing after ``WALAssembler/position``; nil while there is more to come.
    var completeAt: Int64?
    /// The server's clock at the last keepalive, if no log came since.
    var lastKeepalive: Int64?
    /// The server wants an answer; it has given one.
    var isAsked = false
    var isAnswered = false
    /// Since the last look.
    var taken = 0
    var messages = 0

    mutating func take(_ bytes: UnsafeRawBufferPointer) throws -> CopyControl {
      switch try ReplicationMessage(bytes) {
      case .data(let start, let end, let clock):
        let piece = UnsafeRawBufferPointer(rebasing: bytes[ReplicationMessage.dataOffset...])
        try log.append(piece, at: start)
        serverEnd = max(end, log.position)
        completeAt = log.position >= end ? clock : nil
        lastKeepalive = nil
        taken += piece.count
      case .keepalive(let sent, let clock, let replyRequested):
        // It says how far the server has sent, not how far its log goes: it may come in the middle of a backlog. But between
        // two answers, of which one is asked for after the other has come, the server sends what it has. So with no log in
        // between there was none at the first one.
        if log.position >= max(serverEnd, sent) {
          if let lastKeepalive { completeAt = max(completeAt ?? lastKeepalive, lastKeepalive) }
          lastKeepalive = clock
        }
        isAsked = isAsked || replyRequested
        isAnswered = true
      }
      messages += 1
      return taken >= 8 << 20 || isAsked || !log.completed.isEmpty ? .pause : .proceed
    }

    var clockIfComplete: Date? { completeAt.map { PostgresTime.date(microseconds: $0) } }
  }

  private let connection: PostgresConnection
  private let journal: WALJournal
  private let options: WALReceiver.Options
  private let logger: Logger
  private let start: WALSegmentName

  private var wire: Wire
  private var job: WALStoreJob?
  /// The first position that is not durable.
  private(set) var durable: LSN
  /// The server's clock in the last recovery point that was reported without new log.
  private var reported: Int64 = .min
  /// The server's answer is awaited; one at a time.
  private var isAwaitingAnswer = false
  private var bytesReceived = 0
  /// Whether the server has sent any log.
  var hasReceived: Bool { bytesReceived > 0 }
  private var lastPartial = ContinuousClock.now
  private var lastStatus = ContinuousClock.now
  private var lastMessage = ContinuousClock.now

  init(
    connection: PostgresConnection, journal: WALJournal, options: WALReceiver.Options, logger: Logger,
    point: WALResumePoint
  ) {
    self.connection = connection
    self.journal = journal
    self.options = options
    self.logger = logger
    start = point.segment
    durable = point.durable
    wire = Wire(log: WALAssembler(at: point.segment), serverEnd: point.segment.start)
  }

  /// Streams until the server ends the stream.
  ///
  /// - Throws: `CancellationError` once all that was received is stored, or the limit for that is over; ``DRError``. Also
  ///   after a lost connection everything received is stored first: it may be all that is left of it.
  func run() async throws -> End {
    try await connection.send(
      "START_REPLICATION SLOT \"\(options.slot)\" PHYSICAL \(start.start) TIMELINE \(start.timeline)")
    // A start right at the end of a timeline gives no data, only where the log goes on.
    switch try await connection.nextResult() {
    case .copyBoth: break
    case .rows(let rows): return try await end(rows)
    default: throw DRError(.sourceFailed, "the server did not begin to stream WAL")
    }
    do {
      lastMessage = .now
      try await sendStatus(asking: true)
      try await receive()
    } catch {
      // What comes behind a conflict belongs to another history: it has no place here.
      if (error as? DRError)?.code == .segmentConflict { throw error }
      try await storeRest()
      if error is CancellationError { await leave() }
      throw error
    }
    try await storeRest()
    switch try await connection.nextResult() {
    case .copyIn:
      // The server is at the end of a timeline, and waits for our word.
      try await connection.endCopy()
      guard case .rows(let rows)? = try await connection.nextResult() else {
        throw DRError(.sourceFailed, "the server does not say where its log goes on")
      }
      return try await end(rows)
    default:
      while try await connection.nextResult() != nil {}
      return .server
    }
  }

  private func end(_ rows: PostgresRows) async throws -> End {
    while try await connection.nextResult() != nil {}
    guard let timeline = rows.first?[0].flatMap({ UInt32($0) }), let fork = rows.first?[1].flatMap({ LSN($0) }),
      timeline > start.timeline
    else { throw DRError(.sourceFailed, "the server does not say on which timeline its log goes on") }
    return .timeline(timeline, fork: fork)
  }

  // MARK: Receiving

  private func receive() async throws {
    while true {
      if wire.log.completed.isEmpty {
        // Moved out and back: the connection fills it on its own thread, and a second owner would mean a copy.
        var taking = Wire(log: WALAssembler(placeholder: start), serverEnd: start.start)
        swap(&taking, &wire)
        defer { wire = taking }
        let wait: Duration = job == nil ? min(.seconds(1), options.partialInterval) : .milliseconds(20)
        let copied = try await connection.copyAvailable(into: &taking, waiting: wait) { try $0.take($1) }
        if taking.messages > 0 { lastMessage = .now }
        if taking.isAnswered { isAwaitingAnswer = false }
        bytesReceived += taking.taken
        journal.countReceived(UInt64(taking.taken))
        (taking.messages, taking.taken, taking.isAnswered) = (0, 0, false)
        if copied == .ended { return }
      } else {
        try await Task.sleep(for: .milliseconds(10))
        // Not listened to, it has not been silent.
        lastMessage = .now
      }
      try await store()
      try await talk()
    }
  }

  /// Takes note of what was stored, and starts with the next piece.
  private func store() async throws {
    if let finished = job, let result = finished.result {
      job = nil
      try await settle(finished.piece, result)
    }
    guard job == nil else { return }
    if let full = wire.log.takeCompleted() {
      let isLast = wire.log.completed.isEmpty && wire.log.bytes.readableBytes == 0
      job = WALStoreJob(
        WALPiece(segment: full.name, bytes: full.bytes, clock: isLast ? wire.clockIfComplete : nil), journal)
    } else if wire.log.position > durable, lastPartial.duration(to: .now) >= options.partialInterval {
      job = WALStoreJob(takePartial(), journal)
    } else if durable >= wire.log.position, let clock = wire.completeAt, clock > reported {
      // Nothing new, and the server confirms it: what is durable is as good as of then.
      reported = clock
      await journal.report(durable, timeline: wire.log.current.timeline, wire.clockIfComplete)
    }
  }

  private func takePartial() -> WALPiece {
    lastPartial = .now
    return WALPiece(segment: wire.log.current, bytes: wire.log.bytes, clock: wire.clockIfComplete)
  }

  private func settle(_ piece: WALPiece, _ result: Result<Date?, any Error>) async throws {
    let time = try result.get()
    durable = max(durable, piece.end)
    await journal.report(durable, timeline: piece.segment.timeline, time)
  }

  /// Tells the server how far the log is durable: when that has changed, when asked, and often enough to hear from it.
  private func talk() async throws {
    journal.recordLag(wire.serverEnd.bytes(after: durable))
    let silence = lastMessage.duration(to: .now)
    guard silence < options.silenceLimit else {
      throw DRError(
        .timedOut, "the server has said nothing for \(options.silenceLimit), although asked",
        advice: "the network may have dropped the connection; the receiver connects again")
    }
    let interval = min(options.partialInterval, options.silenceLimit / 3)
    let isDue = lastStatus.duration(to: .now) >= interval
    if confirmed > acknowledged || wire.isAsked || isDue {
      try await sendStatus(asking: isDue && !isAwaitingAnswer)
    }
  }

  /// What the server may be told: nothing before it has sent again what the archive has. A server that cannot do so
  /// would take its slot back to a position that it no longer has.
  private var confirmed: LSN { bytesReceived > 0 && wire.log.position >= durable ? durable : LSN(0) }
  private var acknowledged = LSN(0)

  private func sendStatus(asking: Bool) async throws {
    try await connection.sendCopyData(status(asking: asking))
    acknowledged = confirmed
    lastStatus = .now
    wire.isAsked = false
    if asking { isAwaitingAnswer = true }
  }

  private func status(asking: Bool) -> ByteBuffer {
    ReplicationMessage.status(
      received: wire.log.position, durable: confirmed, clock: PostgresTime.microseconds(Date()), replyRequested: asking)
  }

  // MARK: Ending

  /// Stores everything that was received. Cancelling leaves it the shutdown limit; a lost connection all the time.
  private func storeRest() async throws {
    let cancelled = MutableBox<ContinuousClock.Instant?>(nil)
    var pieces = wire.log.completed.map { WALPiece(segment: $0.name, bytes: $0.bytes, clock: nil) }
    if wire.log.position > durable, wire.log.bytes.readableBytes > 0 { pieces.append(takePartial()) }
    if pieces.last?.isFull == true { pieces[pieces.count - 1].clock = wire.clockIfComplete }
    let (running, journal, rest, limit) = (job, journal, pieces, options.shutdownLimit)
    job = nil
    let stored = try await withTaskCancellationHandler {
      // Not a child task: cancellation must not skip it.
      try await Task {
        var stored: [(WALPiece, Date?)] = []
        if let running { stored.append((running.piece, try await WALStream.wait(running, cancelled, limit))) }
        for piece in rest {
          stored.append((piece, try await WALStream.wait(WALStoreJob(piece, journal), cancelled, limit)))
        }
        return stored
      }.value
    } onCancel: {
      cancelled.withLock { $0 = .now }
    }
    for (piece, time) in stored { try await settle(piece, .success(time)) }
  }

  private static func wait(
    _ job: WALStoreJob, _ cancelled: MutableBox<ContinuousClock.Instant?>, _ limit: Duration
  ) async throws -> Date? {
    while true {
      if let result = job.result { return try result.get() }
      if let since = cancelled.value {
        job.finish()
        // A tier that has failed has one more attempt, and not all the time there is.
        let limit = job.hasFailed ? min(limit, WALStream.lastAttempt) : limit
        if since.duration(to: .now) > limit {
          job.cancel()
          throw DRError(
            .timedOut, "the rest of the WAL could not be stored within \(limit)", object: "\(job.piece.segment)")
        }
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// For a tier that has failed before.
  private static let lastAttempt: Duration = .seconds(3)

  /// Acknowledges what is durable and ends the stream in good order, as far as the server plays along.
  private func leave() async {
    let (connection, logger, last, limit) = (connection, logger, status(asking: false), options.shutdownLimit)
    await Task {
      do {
        try await withTimeLimit(limit, "the end of the WAL stream") {
          try await connection.sendCopyData(last)
          try await connection.endCopy()
          while try await connection.nextResult() != nil {}
        }
      } catch {
        logger.info("the WAL stream was not ended in good order", metadata: ["error": "\(error)"])
      }
    }.value
  }
}
