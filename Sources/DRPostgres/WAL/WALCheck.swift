public import DRCore
import Foundation
public import Logging
import NIOCore

/// Says of each backup through which moment the archive can recover it, and names every gap.
///
/// Segments are looked for by their names; only the last ones are read, to find the last commit. That the content of all
/// others is right, their digests show when they are fetched.
public struct WALCheck: Verifier {
  public let archive: WALArchive
  /// The backups to check; those of other clusters, and logical ones, are passed over.
  public let backups: [BackupManifest]

  public init(archive: WALArchive, backups: [BackupManifest]) {
    self.archive = archive
    self.backups = backups
  }

  public func verify(logger: Logger) async throws -> [Finding] { try await report(logger: logger).findings }

  /// - Throws: ``DRError`` when it could not look: `tierUnavailable`, or a history that cannot be read.
  public func report(logger: Logger) async throws -> WALCheckReport {
    let archive = try await archive.withStoredSegmentSize()
    let inventory = try await archive.inventory()
    let histories = try await archive.histories(inventory)
    var report = WALCheckReport(
      systemIdentifier: archive.systemIdentifier, backups: [], conflicts: WALCheck.conflicts(inventory),
      foreign: inventory.foreign)
    var commits: [WALSegmentName: Date?] = [:]
    for backup in backups where backup.systemIdentifier == archive.systemIdentifier && backup.method == .basebackup {
      var (entry, lastSegment) = try WALCheck.check(backup, inventory, histories)
      if let last = lastSegment {
        if commits[last] == nil {
          commits[last] = try await lastCommit(last, entry.timelines, in: archive, inventory, logger)
        }
        entry.throughTime = commits[last] ?? nil
      }
      // The end of the backup itself is reached at least.
      if entry.isRestorable {
        entry.throughTime = max(entry.throughTime ?? backup.recoveryPoint.time, backup.recoveryPoint.time)
      }
      report.backups.append(entry)
    }
    return report
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
    _ backup: BackupManifest, _ inventory: WALInventory, _ histories: [UInt32: TimelineHistory]
  ) throws -> (report: WALCheckReport.Backup, lastSegment: WALSegmentName?) {
    let extent = try BackupExtent(backup)
    let (consistent, endTimeline) = (extent.consistent, extent.endTimeline)

    let latest = inventory.latestTimeline(from: endTimeline)
    var history = latest == 1 ? TimelineHistory(root: 1) : histories[latest] ?? TimelineHistory(root: latest)
    var problem: String?
    if latest != endTimeline, !history.continues(from: consistent, on: endTimeline) {
      problem =
        "timeline \(latest) does not come from this backup, so that a recovery to the latest timeline fails: name timeline \(endTimeline)"
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
      timelines: path.timelines, gaps: path.gaps, problem: problem)
    return (entry, path.segments.last)
  }

  // MARK: By content

  /// How many segments are read to find a commit. Quiet servers write checkpoints only.
  private static let segmentsRead: UInt64 = 16

  private func lastCommit(
    _ last: WALSegmentName, _ timelines: [UInt32], in archive: WALArchive, _ inventory: WALInventory, _ logger: Logger
  ) async throws -> Date? {
    var segment = last
    for _ in 0..<WALCheck.segmentsRead {
      do {
        let content = try await archive.fetch("\(segment)")
        let scan = content.withUnsafeReadableBytes { WALScanner.scan($0, as: segment) }
        if let commit = scan.lastTransaction { return commit.time }
      } catch let error as DRError where error.code == .noMatchingIdentity || error.code == .objectNotFound {
        logger.info(
          "the time of the last commit cannot be read",
          metadata: ["postgres.wal.segment": "\(segment)", "error": "\(error)"])
        return nil
      }
      guard segment.number > 0 else { break }
      // The newest timeline that has the one before.
      let before = timelines.reversed().map {
        WALSegmentName(timeline: $0, number: segment.number - 1, segmentSize: archive.segmentSize)
      }.first { $0.timeline <= segment.timeline && inventory.end(of: $0) != nil }
      guard let before else { break }
      segment = before
    }
    return nil
  }
}
