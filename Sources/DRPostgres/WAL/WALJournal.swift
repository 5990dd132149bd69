import DRCore
import Foundation
import Logging
import Metrics
import NIOCore

/// A piece of the log that is to become durable.
struct WALPiece: Sendable {
  var segment: WALSegmentName
  /// From the segment's start on.
  var bytes: ByteBuffer
  /// The server's clock when it had nothing after this piece: every commit up to then is in it. Nil while catching up.
  var clock: Date?

  var end: LSN { segment.start.advanced(by: UInt64(bytes.readableBytes)) }
  var isFull: Bool { bytes.readableBytes == segment.segmentSize.bytes }
}

/// What a receiver knows across connections: what is durable, and how to store more.
final class WALJournal: Sendable {
  let archive: WALArchive
  private let options: WALReceiver.Options
  private let logger: Logger
  private let onDurable: @Sendable (RecoveryPoint) async -> Void
  private let state = MutableBox(State())
  private let lag: Gauge
  private let stored: Counter

  private struct State {
    var inventory: WALInventory?
    var bytesReceived: UInt64 = 0
    /// The time of the last recovery point.
    var time: Date?
    /// Of the tier.
    var failures = RepeatedError()
  }

  init(
    archive: WALArchive, options: WALReceiver.Options, logger: Logger,
    onDurable: @escaping @Sendable (RecoveryPoint) async -> Void
  ) {
    self.archive = archive
    self.options = options
    self.logger = logger
    self.onDurable = onDurable
    let dimensions = [("component", "\(archive.component)")]
    lag = Gauge(label: "disaster_recovery.postgres.wal.lag_bytes", dimensions: dimensions)
    stored = Counter(label: "disaster_recovery.postgres.wal.segments_stored", dimensions: dimensions)
  }

  var bytesReceived: UInt64 { state.value.bytesReceived }

  func countReceived(_ bytes: UInt64) { state.withLock { $0.bytesReceived &+= bytes } }

  func recordLag(_ bytes: UInt64) { lag.record(bytes) }

  /// What the archive holds: listed once, then kept.
  func inventory() async throws -> WALInventory {
    if let known = state.value.inventory { return known }
    let inventory = try await archive.inventory()
    // What a crash left between storing a full segment and removing its partial ones.
    for segment in inventory.partials.keys where inventory.segments[segment] != nil {
      try await archive.deletePartials(of: "\(segment)")
    }
    state.withLock { $0.inventory = inventory }
    return inventory
  }

  /// Stores a piece. It is durable when this returns. A tier that fails is tried again until the task is cancelled.
  ///
  /// - Parameter attempt: What the receiver that waits for it is told, and tells.
  /// - Returns: The moment up to which every commit is in the archive now, where that is known.
  /// - Throws: ``DRError``; of a tier that fails only when the attempt is to be the last.
  func store(_ piece: WALPiece, _ attempt: WALStoreAttempt) async throws -> Date? {
    var pause = BackOff(longest: options.longestPause)
    while true {
      do {
        if piece.isFull {
          try await archive.push("\(piece.segment)", piece.bytes)
          stored.increment()
        } else {
          _ = try await archive.putPartial(piece.segment, piece.bytes)
        }
        let lasted = state.withLock { state in
          state.inventory?.insert(piece.segment, reach: piece.bytes.readableBytes)
          return state.failures.end()
        }
        if let lasted { logger.warning("WAL is stored again", metadata: ["after": "\(WALJournal.seconds(lasted))"]) }
        return piece.clock ?? lastCommit(in: piece)
      } catch let error as DRError where WALJournal.passing.contains(error.code) {
        say(error, piece)
        guard !attempt.isLast else { throw error }
        attempt.hasFailed = true
        try await attempt.pause(for: pause.next())
      }
    }
  }

  private func say(_ error: DRError, _ piece: WALPiece) {
    switch state.withLock({ $0.failures.next(error) }) {
    case .full:
      logger.error(
        "WAL cannot be stored; trying again",
        metadata: ["postgres.wal.segment": "\(piece.segment)", "error": "\(error)"])
    case .short(let since):
      logger.error(
        "WAL still cannot be stored", metadata: ["since": "\(WALJournal.seconds(since))", "error": "\(error.code)"])
    case .nothing: break
    }
  }

  /// For a log: whole seconds.
  static func seconds(_ duration: Duration) -> String { "\(duration.components.seconds) s" }

  /// What may be better in a while.
  private static let passing: Set<DRError.Code> = [.tierUnavailable, .noSpace, .notWritable, .timedOut]

  /// Says that everything up to a position is durable. Without a moment, the last known one stands.
  func report(_ position: LSN, timeline: UInt32, _ time: Date?) async {
    let latest = state.withLock { state in
      if let time { state.time = max(state.time ?? time, time) }
      return state.time
    }
    guard let latest else { return }
    await onDurable(RecoveryPoint(time: latest, position: "\(position)", history: "\(timeline)"))
  }

  private func lastCommit(in piece: WALPiece) -> Date? {
    piece.bytes.withUnsafeReadableBytes { WALScanner.scan($0, as: piece.segment) }.lastTransaction?.time
  }
}
