import DRCore
import Foundation

/// The timelines that a recovery does not follow, and what they mean for its target.
///
/// A server goes to the newest timeline unless it is told another. Where a copy was promoted for a test and archived into
/// production's archive, that is the copy's, and the recovery would end there without a word.
struct OtherTimelines {
  private let branches: [WALBranch]
  private let followed: TimelineHistory
  private let inventory: WALInventory
  private var reader: BranchReader

  init(
    _ branches: [WALBranch], followed: TimelineHistory, _ inventory: WALInventory, _ archive: WALArchive
  ) {
    self.branches = branches
    self.followed = followed
    self.inventory = inventory
    reader = BranchReader(archive)
  }

  /// Why it has to be said which timeline is meant; nil if the target means the same on all of them, or the newest one is
  /// the only one that was written to then.
  ///
  /// - Throws: ``DRError`` when it could not look.
  mutating func doubt(about target: RecoveryTarget) async throws -> (reason: String, advice: String)? {
    for branch in branches {
      let seen = try await reader.compare(branch, with: followed, inventory)
      guard try await isOpen(target, branch, seen) else { continue }
      let own = WALBranch(followed, behind: branch.fork, inventory)
      return (
        "timelines \(branch.timeline) and \(followed.timeline) part at \(branch.fork); \(text(branch, seen.other)), and "
          + text(own, seen.own),
        "say which one production went on with, by --timeline \(branch.timeline) or --timeline \(followed.timeline) "
          + "(the other may be a copy that was promoted for a test and archives here)"
      )
    }
    return nil
  }

  private func isOpen(_ target: RecoveryTarget, _ branch: WALBranch, _ seen: BranchReader.Comparison) async throws
    -> Bool
  {
    switch target {
    case .latest: return seen.isRival
    case .time(let wanted):
      guard let other = seen.other else { return false }
      // Up to the first commit of either, both are the same.
      guard wanted >= min(other.oldest, seen.own?.oldest ?? other.oldest) else { return false }
      // Of two that were written to at the same time either may be meant, also where one was quiet just then. Of a primary that
      // was gone when the new timeline began, its own last moments are; between the two there was none.
      return seen.isRival || (other.oldest...other.newest).contains(wanted)
    case .position(let text): return LSN(text).map { $0 >= branch.fork && $0 < branch.end } ?? false
    case .name(let name): return try await reader.holds(name, branch)
    case .immediate: return false
    }
  }

  /// The timelines that have a restore point of this name of their own.
  ///
  /// - Throws: ``DRError`` when it could not look.
  func holding(_ name: String) async throws -> [UInt32] {
    var timelines: [UInt32] = []
    for branch in branches where try await reader.holds(name, branch) { timelines.append(branch.timeline) }
    return timelines
  }

  /// Advice for a target that is not reached, with how far the others go.
  ///
  /// - Throws: ``DRError`` when it could not look.
  mutating func advice(beside advice: String) async throws -> String {
    // Without it, the next answer would be that it has to be said which timeline is meant.
    var all = branches.isEmpty ? advice : advice + ", with --timeline \(followed.timeline)"
    for branch in branches {
      all +=
        "; \(text(branch, try await reader.commits(of: branch))): if production went on there, give --timeline "
        + "\(branch.timeline)"
    }
    return all
  }

  private func text(_ branch: WALBranch, _ commits: BranchCommits?) -> String {
    let times =
      commits.map { "commits from \(Timestamp.postgres($0.oldest)) to \(Timestamp.postgres($0.newest))" } ?? "no commit"
    let origin = branch.reason.flatMap { $0.isEmpty ? nil : " (its server began it as: \($0))" } ?? ""
    return "timeline \(branch.timeline)\(origin) goes through \(branch.end) with \(times) of its own"
  }
}
