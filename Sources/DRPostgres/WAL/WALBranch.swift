import DRCore
import Foundation

/// A timeline that a recovery from a backup could follow instead of another one: which WAL there is of it behind the
/// position where the two part.
///
/// There is one after every promotion: what the former primary still wrote. There is one, too, after a copy was promoted
/// for a test that archived into production's archive, and then the newest timeline is not production's.
struct WALBranch: Hashable {
  let timeline: UInt32
  /// The first position at which it is another log than the one that is followed.
  let fork: LSN
  /// The first position that cannot be read of it.
  let end: LSN
  /// Its segments behind the fork, in order, up to the first gap.
  let segments: [WALSegmentName]
  let gaps: [WALGap]
  /// Why it parted from the timeline before, as the server wrote it into its history: "no recovery target specified" after a
  /// failover, "before 2026-…" after a recovery to a moment. Nil for a timeline that was the first.
  let reason: String?

  /// Those of an archive, the followed one left out: of which there is a history, which come from the backup, and of which
  /// there is WAL behind the fork.
  ///
  /// - Parameter histories: Those that the archive has one content of.
  static func others(
    than followed: TimelineHistory, from extent: BackupExtent, _ inventory: WALInventory,
    _ histories: [UInt32: TimelineHistory]
  ) -> [WALBranch] {
    let known = Array(histories.values) + (histories[1] == nil ? [TimelineHistory(root: 1)] : [])
    return known.filter {
      $0.timeline != followed.timeline && $0.continues(from: extent.consistent, on: extent.endTimeline)
    }
    .compactMap { history in
      let fork = history.fork(from: followed)
      let branch = WALBranch(history, behind: fork, inventory)
      return branch.end > fork ? branch : nil
    }
    .sorted { $0.timeline < $1.timeline }
  }

  /// - Parameter inventory: A segment with two contents counts as none.
  init(_ history: TimelineHistory, behind fork: LSN, _ inventory: WALInventory) {
    let path = WALPath(
      inventory.withoutConflicts(), from: fork, on: history.timeline(holding: fork), to: history)
    timeline = history.timeline
    reason = history.ancestors.last?.reason
    self.fork = fork
    end = path.end
    segments = path.segments
    gaps = path.gaps
  }
}

extension TimelineHistory {
  /// The first position at which this is another log than that of another timeline.
  func fork(from other: TimelineHistory) -> LSN {
    typealias Part = (timeline: UInt32, end: LSN?)
    let own = ancestors.map { Part($0.timeline, $0.end) } + [Part(timeline, nil)]
    let others = other.ancestors.map { Part($0.timeline, $0.end) } + [Part(other.timeline, nil)]
    var shared = LSN(0)
    for (part, another) in zip(own, others) {
      guard part.timeline == another.timeline else { return shared }
      guard part.end == another.end else { return [part.end, another.end].compactMap(\.self).min() ?? shared }
      shared = part.end ?? shared
    }
    return shared
  }
}
