package import DRCore
import DRStorage
package import Foundation
import NIOCore

/// The part of the change log that brings a snapshot to a target: found, read once and checked before anything is
/// restored, and then read again.
package struct RedisReplay: Sendable {
  /// Where it begins: the snapshot's position.
  package let start: ReplicationPosition
  /// Where it ends: behind a whole command, outside of transactions.
  package let end: ReplicationPosition
  /// When the last change before the end arrived; the snapshot's moment if there is none.
  package let moment: Date
  /// Commands that change data.
  package let commands: Int
  /// Bytes of the stream.
  package var bytes: Int64 { end.offset - start.offset }
  private let archive: RedisLogArchive
  private let line: ChangeLine

  /// Finds the part.
  ///
  /// - Parameter archive: Nil: only what the snapshot itself reaches.
  /// - Throws: ``DRError``: `targetUnreachable`, saying how far the log reaches; `corruptData` and `malformedData` for a
  ///   damaged segment before the target; `invalidConfiguration` for a target that Redis does not know.
  package static func find(
    _ manifest: BackupManifest, to target: RecoveryTarget, in archive: RedisLogArchive?
  ) async throws -> RedisReplay? {
    let wanted = try Target(target)
    let moment = manifest.recoveryPoint.time
    func unreachable(_ why: String, _ advice: String) -> DRError {
      DRError(
        .targetUnreachable, why, advice: advice, component: manifest.component, object: manifest.id)
    }
    let start = ReplicationPosition(manifest.recoveryPoint)
    switch wanted {
    case .immediate: return nil
    case .time(let time) where time < moment:
      throw unreachable(
        "backup \(manifest.id) is of \(Timestamp.format(moment)), after the target", "choose an earlier backup")
    case .offset(let offset, let history):
      if let start, offset < start.offset {
        throw unreachable(
          "backup \(manifest.id) is at offset \(start.offset), after the target", "choose an earlier backup")
      }
      if let start, start.offset == offset, history == nil || history == start.history { return nil }
    default: break
    }
    guard let archive, let start else {
      if case .latest = wanted { return nil }
      if case .time(let time) = wanted, time == moment { return nil }
      throw unreachable("the target lies after the backup, and there is no change log", "name the change log")
    }
    let backups = try await Repository(tier: archive.tier, layout: archive.layout).catalog(of: archive.component)
      .backups
    let lines = try await archive.lines().knowing(backups)
    guard let found = RedisLogArchive.furthest(from: start, in: lines) else {
      if let hole = try await archive.lostFirst(behind: manifest, in: lines) {
        throw unreachable(
          "the first changes behind backup \(manifest.id) are missing in the change log, \(hole.description): nothing was touched",
          "--immediate restores the backup alone, as of \(Timestamp.format(moment)); for what is behind the hole choose a newer "
            + "backup, or bring the missing segments back from a copy (dr-repository replicate)")
      }
      if lines.contains(where: { $0.wentAnotherWay(before: start) }) {
        throw unreachable(
          "the change log went another way before backup \(manifest.id), which is at offset \(start.offset): a server took over that "
            + "was not there yet. Nothing was touched",
          "--immediate restores the backup alone; what followed is reached from an earlier backup (see list)")
      }
      if lines.hasLostAll(behind: manifest) {
        throw unreachable(
          "nothing is left of the change log that followed backup \(manifest.id): nothing was touched",
          "--immediate restores the backup alone, as of \(Timestamp.format(moment)); bring the change log back from a copy "
            + "(dr-repository replicate)")
      }
      if case .latest = wanted { return nil }
      throw unreachable(
        "the change log has nothing at \(start)", "choose another backup, or see whether the change log runs")
    }
    var lost: ChangeHole?
    if let hole = found.line.hole(after: found.chain.last?.end ?? start.offset), try await archive.isLoss(hole) {
      lost = hole
    }
    return try await scan(
      archive, found.line, found.chain, lost: lost, start, moment, wanted, unreachable: unreachable)
  }

  private static func scan(
    _ archive: RedisLogArchive, _ line: ChangeLine, _ chain: [ChangeSegment], lost: ChangeHole?,
    _ start: ReplicationPosition, _ moment: Date, _ wanted: Target, unreachable: (String, String) -> DRError
  ) async throws -> RedisReplay {
    var walk = ChangeWalk(archive, line, from: start)
    var cut = ChangeCut(at: start.offset)
    var end = start
    var moment = moment
    var isReached = false
    var undated: Undated?
    var refused: Undated?
    var limit = Int64.max
    if case .offset(let offset, _) = wanted { limit = offset }
    scanning: while true {
      let piece: ChangeWalk.Piece
      do {
        guard let next = try await walk.next() else { break scanning }
        piece = next
      } catch let error as DRError where error.isDamage {
        guard refused == nil else { break scanning }
        if case .time(let time) = wanted, moment >= time {
          isReached = true
          break scanning
        }
        throw damaged(error, end, moment, isFirst: end == start)
      }
      let arrival = Date(milliseconds: piece.batch.arrival)
      switch piece.batch.delay {
      case .goesOn where undated != nil: break
      case let delay?:
        guard refused == nil else { break scanning }
        undated = Undated(delay, from: moment, at: end.offset)
      case nil:
        guard refused == nil else { break scanning }
        undated = nil
      }
      if case .time(let time) = wanted, piece.batch.arrived(after: time) {
        // Commands that waited at the server have no times of their own.
        if var span = undated, time > span.from {
          (span.to, span.end) = (arrival, piece.batch.end)
          refused = span
          continue
        }
        isReached = true
        break scanning
      }
      do {
        try cut.take(piece.batch.bytes, within: limit)
      } catch let error as DRError {
        throw damaged(error, end, moment, isFirst: end == start)
      }
      if cut.offset > end.offset {
        end = ReplicationPosition(history: piece.history, offset: cut.offset)
        moment = arrival
      }
      if walk.position.offset >= limit {
        isReached = true
        break scanning
      }
    }
    if let refused {
      throw unreachable(
        "the change log has no times between \(Timestamp.format(refused.from)) and \(Timestamp.format(refused.to)), while it was "
          + "away, took a snapshot or stood still: nothing was touched",
        "give a position, from \(refused.start) to \(refused.end) (--target-offset), or a time outside of that")
    }
    let isShort =
      switch wanted {
      case .latest: lost != nil
      case .time(let time): !isReached && moment < time
      case .offset(let offset, _): !isReached && end.offset < offset
      case .immediate: false
      }
    if isShort {
      let reached = "the change log reaches to offset \(end.offset), \(Timestamp.format(moment))"
      guard let lost else {
        throw unreachable(reached, "choose an earlier target, or the latest; see whether the change log runs")
      }
      throw unreachable(
        "\(reached): then segments are missing, \(lost.description)\(lost.behind == nil ? "" : ", with more behind them"): "
          + "nothing was touched",
        "with this backup ask for --target-offset \(end.offset), or --target-time '\(Timestamp.format(moment))'; for what is "
          + "behind the hole choose a newer backup, or bring the missing segments back from a copy (dr-repository replicate)"
      )
    }
    if case .offset(let offset, let history?) = wanted, history != end.history,
      !chain.contains(where: { $0.history == history && $0.start == end.offset })
    {
      throw unreachable(
        "offset \(offset) of what follows this backup is of history \(end.history)",
        "name a backup from which history \(history) is reached (see list)")
    }
    return RedisReplay(
      start: start, end: end, moment: moment, commands: cut.commands, archive: archive, line: line)
  }

  /// A segment that has to be read is not whole: what can be had without it.
  private static func damaged(
    _ error: DRError, _ end: ReplicationPosition, _ moment: Date, isFirst: Bool
  ) -> DRError {
    var error = error
    error.message =
      "\(error.message.withoutFullStop); the change log is whole to offset \(end.offset), \(Timestamp.format(moment)): nothing was touched"
    error.advice =
      (isFirst
        ? "--immediate restores the backup alone"
        : "with this backup ask for --target-offset \(end.offset), or --target-time '\(Timestamp.format(moment))'")
      + "; for what is behind it choose a newer backup, or take the segment from another tier"
    return error
  }

  /// Commands that waited at the server before they came, together.
  private struct Undated {
    /// All of them were made between these.
    var from: Date
    var to: Date
    /// The offsets before and behind them.
    var start: Int64
    var end: Int64

    init(_ delay: ChangeBatch.Delay, from moment: Date, at offset: Int64) {
      from = moment
      if case .begins(let since?) = delay { from = max(moment, Date(milliseconds: since)) }
      (to, start, end) = (from, offset, offset)
    }
  }

  /// The stream between start and end, byte for byte.
  package var stream: ByteStream { content { bytes, _ in bytes } }

  /// The same as an append-only file: with times, without what only replicas must see.
  package var appendOnlyFile: ByteStream {
    let second = MutableBox<Int64>(-1)
    return content { bytes, batch in
      var kept = ByteBuffer()
      second.withLock { second in
        guard batch.arrival / 1000 != second else { return }
        second = batch.arrival / 1000
        kept.writeString(ChangeSegmentFormat.second(batch.arrival))
      }
      var scanner = ReplicationCommandScanner()
      try bytes.withUnsafeReadableBytes { raw in
        try scanner.scan(raw) { command, size, end in
          if command.changesData { kept.writeBytes(raw[end - size..<end]) }
        }
      }
      return kept
    }
  }

  private func content(_ form: @escaping @Sendable (ByteBuffer, ChangeBatch) throws -> ByteBuffer) -> ByteStream {
    let state = MutableBox(ChangeWalk(archive, line, from: start))
    return ByteStream { [end] in
      var walk = state.value
      guard walk.position.offset < end.offset else { return nil }
      guard let piece = try await walk.next() else {
        throw DRError(
          .truncatedData,
          "the change log ends at offset \(walk.position.offset), before the target: it was changed meanwhile",
          advice: "see what else writes to the repository, and run it again")
      }
      state.withLock { $0 = walk }
      var bytes = piece.batch.bytes
      let taken = bytes.readSlice(length: Int(min(Int64(bytes.readableBytes), end.offset - piece.batch.start)))
      return try form(taken ?? bytes, piece.batch)
    }
  }

  private enum Target {
    case latest
    case immediate
    case time(Date)
    case offset(Int64, history: String?)

    init(_ target: RecoveryTarget) throws {
      switch target {
      case .latest: self = .latest
      case .immediate: self = .immediate
      case .time(let date): self = .time(date)
      case .position(let text):
        if let position = ReplicationPosition(parsing: text) {
          self = .offset(position.offset, history: position.history)
        } else if let offset = Int64(text), offset >= 0 {
          self = .offset(offset, history: nil)
        } else {
          throw DRError(
            .invalidConfiguration, "'\(text.prefix(60))' is no position of Redis",
            advice: "write the offset, or <replication ID>:<offset>")
        }
      case .name:
        throw DRError(.invalidConfiguration, "Redis knows no named points", advice: "give a time or an offset")
      }
    }
  }
}

extension ChangeBatch {
  /// Compared to the microsecond: a moment that is written with three digits is not quite a whole number of them.
  fileprivate func arrived(after time: Date) -> Bool {
    Double(arrival) * 1000 > (time.timeIntervalSince1970 * 1_000_000).rounded()
  }
}
