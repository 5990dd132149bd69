import DRCore
import Logging
import NIOCore

/// One connection of a receiver: from where to stream, over which slot, and from timeline to timeline.
struct WALSession {
  let connection: PostgresConnection
  let identity: ServerIdentity
  let server: PostgresConnectionSettings
  let journal: WALJournal
  let options: WALReceiver.Options
  let logger: Logger

  private var archive: WALArchive { journal.archive }
  private var slot: ReplicationSlot {
    ReplicationSlot(name: options.slot, connection: connection, server: server, logger: logger)
  }

  /// Streams until the server ends the stream in good order.
  ///
  /// - Throws: `CancellationError` once everything received is stored; ``DRError``.
  func run() async throws {
    let history = try await archiveHistories()
    let inventory = try await journal.inventory()
    var point: WALResumePoint
    var bare: WALResumePoint?
    var madeSlot = false
    if inventory.isEmpty {
      point = try await firstStart(history)
    } else if let found = WALResumePoint(inventory, to: history) {
      try archive.checkNotBehind(identity, timeline: found.segment.timeline, end: found.durable)
      switch try await slot.read(identity) {
      case nil:
        // Whether WAL was lost meanwhile shows when it is asked for.
        logger.warning(
          "the replication slot is missing; made again to go on where the archive ends",
          metadata: ["postgres.slot": "\(options.slot)", "postgres.lsn": "\(found.durable)"])
        try await slot.create()
        madeSlot = true
        point = found
      case let state? where state.restart == nil:
        try refuse(from: found.durable, to: try await firstKept(), cause: nil)
        point = try await newStart(history)
      default:
        point = found
      }
      if point == found {
        bare = found
        point = found.overlapping(inventory)
      }
    } else {
      try refuse(from: nil, to: try await firstKept(), cause: nil)
      point = try await newStart(history)
    }

    while true {
      logger.info(
        "streaming WAL",
        metadata: [
          "postgres.wal.segment": "\(point.segment)", "postgres.lsn": "\(point.durable)",
          "postgres.slot": "\(options.slot)",
        ])
      let stream = WALStream(
        connection: connection, journal: journal, options: options, logger: logger, point: point)
      let end: WALStream.End
      do {
        end = try await stream.run()
        bare = nil
      } catch let error as DRError where isLoss(error) {
        // Only at the very start: what has come since lies on the way, and what is missing then is missing.
        if let next = bare, next != point, !stream.hasReceived {
          logger.info(
            "the server no longer has the last stored segment: its log is not compared with the archive's",
            metadata: ["postgres.wal.segment": "\(point.segment)"])
          (point, bare) = (next, nil)
          continue
        }
        let kept = try await firstKept()
        // A slot that nobody follows would fill the server's disk.
        if madeSlot, !options.acceptsGap { try await slot.drop() }
        try refuse(from: stream.durable, to: kept, cause: error)
        try await slot.drop()
        (point, bare) = (try await newStart(history), nil)
        continue
      }
      guard case .timeline(let next, let fork) = end else { return }
      // The history first: without it nobody finds the way to the new timeline's segments.
      try await archiveHistory(of: next)
      logger.notice(
        "the server changed to another timeline",
        metadata: ["postgres.timeline": "\(next)", "postgres.lsn": "\(fork)"])
      point = WALResumePoint(
        segment: WALSegmentName(timeline: next, holding: fork, segmentSize: archive.segmentSize), durable: fork)
    }
  }

  // MARK: Where to start

  /// Starts an empty archive where the slot begins, which may have been made long before.
  private func firstStart(_ history: TimelineHistory) async throws -> WALResumePoint {
    if let state = try await slot.read(identity), state.restart == nil {
      // A base backup may rely on what the slot held.
      try refuse(from: nil, to: try await firstKept(), cause: nil)
    }
    return try await newStart(history)
  }

  /// Starts where the slot begins to keep WAL, after a gap or with an empty archive.
  private func newStart(_ history: TimelineHistory) async throws -> WALResumePoint {
    var state = try await slot.read(identity)
    if let known = state, known.restart == nil {
      // Never used, or invalidated; neither holds anything.
      try await slot.drop()
      state = nil
    }
    if state == nil {
      try await slot.create()
      state = try await slot.read(identity)
    }
    guard let start = state?.restart else {
      throw DRError(.sourceFailed, "the new replication slot holds no WAL", object: options.slot)
    }
    let segment = WALSegmentName(
      timeline: history.timeline(holding: start), holding: start, segmentSize: archive.segmentSize)
    return WALResumePoint(segment: segment, durable: segment.start)
  }

  /// Where the WAL begins that the server can still give: where a new slot would begin.
  private func firstKept() async throws -> LSN {
    let probe = ReplicationSlot(
      name: "dr_probe_\(UInt32.random(in: 1 ... .max))", connection: connection, server: server, logger: logger)
    try await probe.create(isTemporary: true)
    let state = try await probe.read(identity)
    try await probe.drop()
    return archive.segmentSize.boundary(before: state?.restart ?? identity.position)
  }

  private func isLoss(_ error: DRError) -> Bool {
    // 58P01: the segment has been removed. 55000: the slot was invalidated.
    error.sqlState == "58P01" || error.sqlState == "55000"
  }

  /// Names a gap: as an error, or as a warning where gaps are accepted.
  private func refuse(from: LSN?, to: LSN, cause: (any Error)?) throws {
    let gap = from.map { "from \($0) to \(to)" } ?? "before \(to)"
    guard options.acceptsGap else {
      throw DRError(
        .changeLogGap,
        "WAL is lost: the server \(server) no longer has it, and neither has the archive, \(gap)",
        advice:
          "accept the gap (--accept-gap), so that the receiver goes on behind it, and take a new base backup at once. If an "
          + "archive_command stored this WAL elsewhere, push it into the archive instead",
        object: options.slot, cause: cause)
    }
    logger.warning("a gap in the WAL was accepted; take a base backup", metadata: ["postgres.wal.gap": "\(gap)"])
  }

  // MARK: Timelines

  /// Stores the histories of the server's timeline and of its ancestors, and gives the former.
  private func archiveHistories() async throws -> TimelineHistory {
    guard identity.timeline > 1 else { return TimelineHistory(root: identity.timeline) }
    let history = try await archiveHistory(of: identity.timeline)
    // A recovery to the latest timeline tries them one after another, and stops at the first that is missing.
    for ancestor in history.ancestors where ancestor.timeline > 1 {
      do {
        try await archiveHistory(of: ancestor.timeline)
      } catch let error as DRError where error.sqlState == "58P01" {
        logger.info(
          "the server no longer has the history of an older timeline",
          metadata: ["postgres.timeline": "\(ancestor.timeline)"])
      }
    }
    return history
  }

  @discardableResult
  private func archiveHistory(of timeline: UInt32) async throws -> TimelineHistory {
    let row = try await connection.query("TIMELINE_HISTORY \(timeline)").first
    guard let content = row?["content"] else {
      throw DRError(.sourceFailed, "the server gives no history of timeline \(timeline)")
    }
    let history = try TimelineHistory(parsing: content, timeline: timeline)
    try await archive.push("\(WALFileName.history(timeline: timeline))", ByteBuffer(string: content))
    return history
  }
}
