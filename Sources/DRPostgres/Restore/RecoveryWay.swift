import DRCore
import Foundation
import Logging
import NIOCore

/// The way of one recovery through an archive, looked at before it is gone.
struct RecoveryWay {
  private let check: RecoveryCheck
  private let backup: BackupManifest
  private let target: RecoveryTarget

  init(_ check: RecoveryCheck, _ backup: BackupManifest, _ target: RecoveryTarget) {
    self.check = check
    self.backup = backup
    self.target = target
  }

  func check(_ logger: Logger) async throws -> RecoveryReach {
    guard backup.systemIdentifier == check.archive.systemIdentifier else {
      throw unreachable(
        "it is of the cluster \(backup.systemIdentifier ?? "that it does not name"), and the archive is of "
          + check.archive.systemIdentifier, "give the archive of the backup's own cluster")
    }
    let extent = try BackupExtent(backup)
    let archive = try await check.archive.withStoredSegmentSize()
    let inventory = try await archive.inventory()
    let histories = try await archive.histories(inventory)
    let history: TimelineHistory
    do {
      history = try check.history(from: extent, target, inventory, histories)
    } catch let detour as RecoveryCheck.Detour {
      throw unreachable(detour.reason, detour.advice)
    }
    if check.followsNewest, let missing = inventory.missingHistories(histories, above: history.timeline).first {
      let file = WALFileName.history(timeline: missing)
      throw unreachable(
        "\(file) is not in the archive, which has WAL of that timeline or of one that comes from it: a server would stop on timeline "
          + "\(history.timeline)",
        "push it from pg_wal of a server that was on it (dr-wal push), or say which timeline is meant: --timeline N")
    }
    // A segment with two contents is none: a recovery stops there.
    let conflicts = inventory.segments.filter { $0.value > 1 }.map(\.key)
    var path = WALPath(
      inventory.withoutConflicts(), from: extent.firstNeeded, on: extent.firstTimeline, to: history,
      unusable: conflicts)
    path.end = max(path.end, extent.firstNeeded)
    let missing = Missing(gaps: path.gaps, conflicts: conflicts)
    guard path.end >= extent.consistent else {
      throw unreachable(
        "the WAL that it needs ends at \(path.end), before it is consistent at \(extent.consistent)"
          + missing.text(", "),
        "find the missing WAL on the server or another tier and push it, or choose another backup")
    }
    logger.info(
      "the WAL in the archive was looked at",
      metadata: [
        "backup.id": "\(backup.id)", "postgres.lsn": "\(path.end)",
        "postgres.timeline": "\(path.timelines.last ?? extent.endTimeline)",
      ])
    var reach = RecoveryReach(
      backup: backup.id, timelines: path.timelines, through: path.end, lastPosition: nil, throughTime: nil,
      gaps: path.gaps)
    if check.readsAll { try await read(path, in: archive, extent, logger) }
    var others = OtherTimelines(
      WALBranch.others(than: history, from: extent, inventory, histories), followed: history, inventory, archive)
    switch target {
    case .immediate: return reach
    case .name(let name):
      try await find(name, in: archive, path, extent, missing, others)
      try await refuseDoubt(&others)
      return reach
    case .latest, .time, .position: break
    }
    let tail = try await tail(of: path, in: archive, after: extent.consistent, isBroken: !path.gaps.isEmpty)
    reach.lastPosition = tail.lastRecord
    reach.throughTime = tail.newest
    if let first = tail.unreadable.last { reach.through = first.start }
    let broken = missing.text(", ") + (tail.problem.map { "; \($0)" } ?? "")
    if let obstacle = obstacle(reach, isBroken: !path.gaps.isEmpty || tail.problem != nil) {
      throw unreachable(
        obstacle + through(reach) + broken, try await others.advice(beside: advice(reach, isBroken: !broken.isEmpty)))
    }
    try await refuseDoubt(&others)
    return reach
  }

  private func refuseDoubt(_ others: inout OtherTimelines) async throws {
    guard check.followsNewest, let doubt = try await others.doubt(about: target) else { return }
    throw DRError(
      .targetAmbiguous, "a recovery from backup \(backup.id) could end in two places: \(doubt.reason)",
      advice: doubt.advice, component: backup.component, object: backup.id)
  }

  // MARK: All of the way

  /// Reads and digests every segment that the recovery reads, up to the one in which it stops.
  private func read(
    _ path: WALPath, in archive: WALArchive, _ extent: BackupExtent, _ logger: Logger
  ) async throws {
    var count = 0
    for segment in path.segments {
      let scan: WALScan
      do {
        let content = try await archive.fetch("\(segment)")
        scan = content.withUnsafeReadableBytes { WALScanner.scan($0, as: segment) }
      } catch let error as DRError where RecoveryWay.damage.contains(error.code) {
        throw unreachable(
          "\(segment) on the way cannot be used: \(error.message); a recovery goes through \(segment.start)",
          "take the segment from the server or another tier and push it, or choose a target before it")
      }
      count += 1
      let isBehind =
        switch target {
        case .immediate: segment.end >= extent.consistent
        case .position(let text): LSN(text).map { segment.end > $0 } ?? false
        // A commit behind the target stops it.
        case .time(let wanted): segment.end > extent.consistent && scan.newestTime.map { $0 > wanted } ?? false
        case .latest, .name: false
        }
      if isBehind { break }
    }
    logger.info("the WAL on the way was read", metadata: ["postgres.wal.segments": "\(count)"])
  }

  // MARK: The end of the way

  /// What stands in the way of a target that is not a name; nil if nothing does.
  private func obstacle(_ reach: RecoveryReach, isBroken: Bool) -> String? {
    switch target {
    case .latest:
      return isBroken ? "the WAL on the way to its end has a gap" : nil
    case .position(let text):
      // The server stops at the first record that starts there or behind.
      guard let wanted = LSN(text) else { return "'\(text.prefix(40))' is no LSN" }
      return wanted <= reach.lastPosition ?? LSN(0) ? nil : "no WAL is there from \(wanted) on"
    case .time(let wanted):
      // The server stops at the first commit after the moment; if there is none, it ends with an error.
      if let newest = reach.throughTime, check.inclusive ? newest > wanted : newest >= wanted { return nil }
      return "there is no commit after \(Timestamp.postgres(wanted))"
    case .immediate, .name: return nil
    }
  }

  private func through(_ reach: RecoveryReach) -> String {
    "; a recovery goes through \(reach.through)"
      + (reach.throughTime.map { ", its newest commit is of \(Timestamp.postgres($0))" }
        ?? ", without a commit since the end of the backup")
  }

  private func advice(_ reach: RecoveryReach, isBroken: Bool) -> String {
    guard isBroken else {
      return "everything that was stored of timeline \(reach.timelines.last ?? 1) comes back without a target"
    }
    let found = "find what is missing on the server or another tier, and push it"
    guard let last = reach.lastPosition else {
      return found + "; the target immediate (--immediate) recovers the backup itself"
    }
    return found + "; what there is up to the gap comes back with the position \(last) as target (--target-lsn \(last))"
  }

  private struct Tail {
    var lastRecord: LSN?
    var newest: Date?
    /// From the end on.
    var unreadable: [WALSegmentName] = []
    var problem: String?
  }

  /// Reads backwards from the end of the way until a record is found and, where it decides or is worth telling, a commit.
  private func tail(
    of path: WALPath, in archive: WALArchive, after consistent: LSN, isBroken: Bool
  ) async throws -> Tail {
    var tail = Tail()
    let isTimeWanted = if case .time = target { true } else { isBroken }
    for segment in path.segments.reversed() {
      guard segment.end > consistent else { break }
      do {
        let content = try await archive.fetch("\(segment)")
        let scan = content.withUnsafeReadableBytes { WALScanner.scan($0, as: segment) }
        if let last = scan.lastRecord, last >= consistent { tail.lastRecord = tail.lastRecord ?? last }
        if let transaction = scan.lastTransaction, transaction.end > consistent { tail.newest = scan.newestTime }
      } catch let error as DRError where RecoveryWay.damage.contains(error.code) {
        // A recovery gets no further than to this one.
        tail.unreadable.append(segment)
        tail.problem = "\(segment) cannot be used: \(error.message)"
        (tail.lastRecord, tail.newest) = (nil, nil)
      }
      if tail.lastRecord != nil, tail.newest != nil || !(isTimeWanted || tail.problem != nil) { break }
    }
    return tail
  }

  /// An archive that cannot be opened at all is another error.
  private static let damage = WALArchive.unreadable.subtracting([.noMatchingIdentity])

  // MARK: A name

  private func find(
    _ name: String, in archive: WALArchive, _ path: WALPath, _ extent: BackupExtent, _ missing: Missing,
    _ others: OtherTimelines
  ) async throws {
    var names: [String] = []
    var unfinished: WALUnfinishedRecord?
    for segment in path.segments {
      let content: ByteBuffer
      do {
        content = try await archive.fetch("\(segment)")
      } catch let error as DRError where RecoveryWay.damage.contains(error.code) {
        throw unreachable(
          "the restore point '\(name)' was not found before \(segment), which cannot be used: \(error.message)",
          "take the segment from the server or another tier")
      }
      let (scan, rest) = content.withUnsafeReadableBytes { WALScanner.scan($0, as: segment, after: unfinished) }
      unfinished = rest
      for point in scan.restorePoints {
        guard point.name == name else {
          names.append(point.name)
          continue
        }
        guard point.start >= extent.consistent else {
          throw unreachable(
            "the restore point '\(name)' at \(point.start) lies before it is consistent at \(extent.consistent)",
            "choose an earlier backup")
        }
        return
      }
    }
    let elsewhere = try await others.holding(name)
    throw unreachable(
      "there is no restore point '\(name)' in the WAL from \(extent.firstNeeded) to \(path.end)" + missing.text(", "),
      !elsewhere.isEmpty
        ? "timeline \(elsewhere.map(String.init).joined(separator: ", ")) has one: --timeline \(elsewhere[0])"
        : names.isEmpty
          ? "there is no other either; an earlier backup may have it on its way"
          : "there is \(names.suffix(10).joined(separator: ", ")); an earlier backup may have others on its way")
  }

  private func unreachable(_ why: String, _ advice: String) -> DRError {
    let goal =
      switch target {
      case .latest: "the latest state"
      case .immediate: "its own end"
      case .time(let date): Timestamp.postgres(date)
      case .position(let text): String(text.prefix(40))
      case .name(let name): "the restore point '\(name.prefix(64))'"
      }
    return DRError(
      .targetUnreachable, "a recovery from backup \(backup.id) does not reach \(goal): \(why)", advice: advice,
      component: backup.component, object: backup.id)
  }
}

/// What a recovery does not find.
private struct Missing {
  var gaps: [WALGap]
  var conflicts: [WALSegmentName]

  private func more(_ names: [WALSegmentName]) -> String {
    names.count > 1 ? " and \(names.count - 1) more segments" : ""
  }

  /// Empty if nothing is missing.
  func text(_ separator: String) -> String {
    guard !gaps.isEmpty else { return "" }
    let named = gaps.prefix(3).map { gap in
      let doubled = conflicts.filter {
        $0.timeline == gap.first.timeline && (gap.first.number...gap.last.number).contains($0.number)
      }
      if let only = doubled.first, doubled.count == gap.count {
        return "two different contents of \(only)" + more(doubled)
      }
      return "\(gap)" + (doubled.isEmpty ? "" : " (two different contents of \(doubled[0]))")
    }
    return separator + named.joined(separator: ", ") + (gaps.count > 3 ? " and \(gaps.count - 3) more gaps" : "")
  }
}
