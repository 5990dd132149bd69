public import DRCore
import Foundation
public import Logging
import NIOCore

/// Says of each backup through which moment the archive can recover it, and names every gap.
///
/// Segments are looked for by their names; only the last ones are read, to find the last commit. That the content of all
/// others is right, their digests show when they are fetched, or with ``readsAll``.
///
/// What is damaged, and two contents under one name, are findings: a backup reaches no further than to the first of them.
public struct WALCheck: Verifier {
  public let archive: WALArchive
  /// The backups to check; those of other clusters, and logical ones, are passed over.
  public let backups: [BackupManifest]
  /// Read, decrypt and digest every segment, full or partial, and every history.
  public var readsAll: Bool
  /// The timeline that production is on; nil: the newest that a backup leads to. Others that were written to at the same time are
  /// a failure unless it is said.
  public var timeline: UInt32?

  public init(archive: WALArchive, backups: [BackupManifest], readsAll: Bool = false, timeline: UInt32? = nil) {
    self.archive = archive
    self.backups = backups
    self.readsAll = readsAll
    self.timeline = timeline
  }

  public func verify(logger: Logger) async throws -> [Finding] { try await report(logger: logger).findings }

  /// - Throws: ``DRError`` when it could not look: `tierUnavailable`; `invalidConfiguration` for a ``timeline`` that is not there; `noMatchingIdentity` where something must be read, and
  ///   where keys were given and none of them opens the log.
  public func report(logger: Logger) async throws -> WALCheckReport {
    let archive = try await archive.withStoredSegmentSize()
    let stored = try await archive.store.segments()
    let inventory = WALInventory(stored, segmentSize: archive.segmentSize)
    var reader = WALCheckReader(archive, logger)
    if let timeline, timeline > 1, inventory.histories[timeline] == nil, !inventory.timelines.contains(timeline) {
      throw DRError(
        .invalidConfiguration, "the archive knows no timeline \(timeline)",
        advice: "it has \(inventory.timelines.map(String.init).joined(separator: ", "))")
    }
    if readsAll { try await reader.readAll(inventory) }
    let histories = try await reader.histories(inventory)
    var entries: [WALCheckReport.Backup] = []
    var branches = BranchReader(archive)
    for backup in backups where backup.systemIdentifier == archive.systemIdentifier && backup.method == .basebackup {
      var (entry, way, followed) = try WALCheck.check(backup, inventory, histories, timeline: timeline)
      let (usable, commit, unread) = try await reader.end(of: way, inventory)
      if let unread, unread.code == .noMatchingIdentity, !archive.decoding.identities.isEmpty { throw unread }
      if usable.count < way.count { entry.cut(before: way[usable.count], try BackupExtent(backup)) }
      // The end of the backup itself is reached at least.
      if entry.isRestorable {
        entry.throughTime = max(commit ?? backup.recoveryPoint.time, backup.recoveryPoint.time)
        entry.unread = unread
      }
      for other in WALBranch.others(than: followed, from: try BackupExtent(backup), inventory, histories) {
        let seen = try await branches.compare(other, with: followed, inventory)
        entry.others.append(
          WALCheckReport.Branch(
            timeline: other.timeline, fork: other.fork, through: other.end, firstTime: seen.other?.oldest,
            throughTime: seen.other?.newest, gaps: other.gaps, isRival: seen.isRival && timeline == nil))
      }
      entries.append(entry)
    }
    let conflicts = WALCheck.conflicts(inventory).map { conflict in
      var conflict = conflict
      conflict.objects = stored.filter { !$0.isPartial && $0.name == conflict.name }.map(\.key)
      return conflict
    }
    let names = Set(conflicts.map(\.name))
    let lowest = inventory.lowestTimeline
    return WALCheckReport(
      systemIdentifier: archive.systemIdentifier, backups: entries, conflicts: conflicts, foreign: inventory.foreign,
      damaged: reader.damage.filter { !names.contains($0.key) }.map {
        WALCheckReport.Damage(name: $0.key, error: $0.value)
      }
      .sorted { $0.name < $1.name }, filesRead: readsAll ? reader.filesRead : nil,
      missingHistories: lowest.map { inventory.missingHistories(histories, above: $0) } ?? [])
  }

  // MARK: By names alone

  package static func conflicts(_ inventory: WALInventory) -> [WALCheckReport.Conflict] {
    let segments = inventory.segments.filter { $0.value > 1 }.map {
      WALCheckReport.Conflict(name: "\($0.key)", contents: $0.value)
    }
    let histories = inventory.histories.filter { $0.value > 1 }.map {
      WALCheckReport.Conflict(name: "\(WALFileName.history(timeline: $0.key))", contents: $0.value)
    }
    return (segments + histories).sorted { $0.name < $1.name }
  }

  /// - Parameter histories: Those that the archive has one content of.
  package static func check(
    _ backup: BackupManifest, _ inventory: WALInventory, _ histories: [UInt32: TimelineHistory], timeline: UInt32? = nil
  ) throws -> (report: WALCheckReport.Backup, way: [WALSegmentName], followed: TimelineHistory) {
    let extent = try BackupExtent(backup)
    let (consistent, endTimeline) = (extent.consistent, extent.endTimeline)

    let latest = timeline ?? inventory.latestTimeline(from: endTimeline)
    var history = latest == 1 ? TimelineHistory(root: 1) : histories[latest] ?? TimelineHistory(root: latest)
    var problem: String?
    if latest != endTimeline, !history.continues(from: consistent, on: endTimeline) {
      problem =
        "timeline \(latest) does not come from this backup, so that a recovery to the latest timeline fails: follow timeline \(endTimeline) (--timeline \(endTimeline))"
      history = histories[endTimeline] ?? TimelineHistory(root: endTimeline)
    }
    let hasOwn = extent.includesWAL
    var path = WALPath(inventory, from: extent.firstNeeded, on: extent.firstTimeline, to: history)
    path.end = max(path.end, extent.firstNeeded)
    let damaged = inventory.segments.contains { name, contents in
      contents > 1 && path.timelines.contains(name.timeline) && name.start < consistent && name.end > extent.start
    }
    if damaged, !hasOwn { problem = "a segment that it needs has two different contents" }
    let entry = WALCheckReport.Backup(
      id: backup.id, isRestorable: path.end >= consistent && !(damaged && !hasOwn), through: path.end, throughTime: nil,
      timelines: path.timelines, gaps: path.gaps, problem: problem, unread: nil)
    return (entry, path.segments, history)
  }
}

extension WALCheckReport.Backup {
  /// A recovery ends before a segment that cannot be used.
  fileprivate mutating func cut(before segment: WALSegmentName, _ extent: BackupExtent) {
    let end = max(segment.start, extent.firstNeeded)
    guard end < through else { return }
    through = end
    isRestorable = isRestorable && end >= extent.consistent
    problem = (problem.map { "\($0); " } ?? "") + "\(segment) cannot be used"
  }
}
