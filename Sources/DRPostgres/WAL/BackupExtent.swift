import DRCore

/// Which WAL a base backup needs, as its manifest says it.
struct BackupExtent: Hashable {
  let start: LSN
  let timeline: UInt32
  /// The end of the backup: a recovery up to here is consistent.
  let consistent: LSN
  let endTimeline: UInt32
  /// A backup with its own WAL needs an archive only behind its end.
  let includesWAL: Bool

  /// - Throws: ``DRError`` with `malformedData` if the manifest does not say it.
  init(_ backup: BackupManifest) throws {
    guard let from = backup.changesFrom, let start = LSN(from.position),
      let consistent = LSN(backup.recoveryPoint.position),
      let timeline = from.history.flatMap({ UInt32($0) }),
      let endTimeline = backup.recoveryPoint.history.flatMap({ UInt32($0) })
    else {
      throw DRError(
        .malformedData, "the manifest of backup \(backup.id) does not say where its WAL starts and ends",
        component: backup.component, object: backup.id)
    }
    self.start = start
    self.timeline = timeline
    self.consistent = consistent
    self.endTimeline = endTimeline
    includesWAL = backup.properties["walIncluded"] == .bool(true)
  }

  /// Where a recovery begins to need an archive, and on which timeline.
  var firstNeeded: LSN { includesWAL ? consistent : start }
  var firstTimeline: UInt32 { includesWAL ? endTimeline : timeline }
}
