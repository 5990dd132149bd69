public import DRCore
import Foundation
public import Logging
import NIOCore

/// Says before a restore whether the WAL in the archive leads from a backup to a target.
///
/// A server finds that out only at the end of its recovery, and then it stops. Segments are looked for by their names; of
/// their content only the end of the way is read, and for a named target the way up to it. That the content of all others
/// is right, their digests show when they are fetched, or with ``readsAll``.
public struct RecoveryCheck: Sendable {
  public let archive: WALArchive
  /// Which timeline to follow, as in ``RecoverySettings/timeline``.
  public var timeline: RecoverySettings.Timeline?
  /// Whether the target itself is still replayed.
  public var inclusive: Bool
  /// Read and digest every segment that the recovery needs, up to its target.
  public var readsAll: Bool

  public init(
    archive: WALArchive, timeline: RecoverySettings.Timeline? = nil, inclusive: Bool = true, readsAll: Bool = false
  ) {
    self.archive = archive
    self.timeline = timeline
    self.inclusive = inclusive
    self.readsAll = readsAll
  }

  /// Checks that a recovery from a backup reaches a target.
  ///
  /// - Throws: ``DRError``: `targetUnreachable`, naming what is missing and through which moment and position the recovery
  ///   could go; `noMatchingIdentity` if the archive is encrypted and cannot be opened; `tierUnavailable`;
  ///   `malformedData` for a manifest that does not say which WAL it needs.
  @discardableResult
  public func check(
    _ backup: BackupManifest, reaches target: RecoveryTarget, logger: Logger
  ) async throws -> RecoveryReach {
    try await RecoveryWay(self, backup, target).check(logger)
  }

  /// Those of the backups from which the timeline can be reached: a backup that was taken on another branch, behind the
  /// fork, is none of them.
  ///
  /// - Throws: ``DRError`` when it could not look.
  public func leading(_ backups: [BackupManifest], to target: RecoveryTarget) async throws -> [BackupManifest] {
    let archive = try await archive.withStoredSegmentSize()
    let inventory = try await archive.inventory()
    let histories = try await archive.histories(inventory)
    return try backups.filter { backup in
      guard backup.systemIdentifier == archive.systemIdentifier, backup.method == .basebackup else { return false }
      do {
        _ = try history(from: BackupExtent(backup), target, inventory, histories)
        return true
      } catch is Detour { return false }
    }
  }

  // MARK: Timelines

  /// Nobody has said by name which timeline is meant.
  var followsNewest: Bool {
    switch timeline {
    case nil, .latest: true
    case .current, .id: false
    }
  }

  /// Why a timeline does not come from a backup.
  struct Detour: Error {
    var reason: String
    var advice: String
  }

  /// The history of the timeline to follow, as a server finds it (`validateRecoveryParameters` and `InitWalRecovery` of
  /// PostgreSQL's recovery).
  ///
  /// - Throws: ``Detour``.
  func history(
    from extent: BackupExtent, _ target: RecoveryTarget, _ inventory: WALInventory,
    _ histories: [UInt32: TimelineHistory]
  ) throws -> TimelineHistory {
    func known(_ timeline: UInt32) throws -> TimelineHistory {
      if timeline == 1 { return TimelineHistory(root: 1) }
      if let history = histories[timeline] { return history }
      guard inventory.histories[timeline] == nil else {
        throw Detour(
          reason: "the archive holds two histories of timeline \(timeline)",
          advice: "two servers wrote one archive: find which one is right")
      }
      return TimelineHistory(root: timeline)
    }
    let wanted: UInt32
    switch timeline ?? (target == .immediate ? .current : .latest) {
    case .current: return try known(extent.endTimeline)
    case .latest: wanted = inventory.latestTimeline(from: extent.endTimeline)
    case .id(let id):
      guard id == 1 || inventory.histories[id] != nil else {
        let others = ([extent.endTimeline] + inventory.histories.keys).sorted().map(String.init)
        throw Detour(
          reason: "the archive knows no timeline \(id)", advice: "it knows \(others.joined(separator: ", "))")
      }
      wanted = id
    }
    let history = try known(wanted)
    guard history.continues(from: extent.consistent, on: extent.endTimeline) else {
      throw Detour(
        reason: "timeline \(wanted) does not come from this backup, which ends at \(extent.consistent) on timeline "
          + "\(extent.endTimeline)",
        advice: "choose an earlier backup, or follow timeline \(extent.endTimeline) (--timeline \(extent.endTimeline))")
    }
    return history
  }
}
