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
      let (commits, isRival) = try await reader.compare(branch, with: followed, inventory)
      guard let commits else { continue }
      let own = try await reader.commits(of: WALBranch(followed, behind: branch.fork, inventory))
      let isOpen: Bool =
        switch target {
        case .latest: isRival
        // Before the first commit of the followed timeline, only the other one was production's.
        case .time(let wanted): commits.oldest <= wanted && (isRival || own.map { $0.oldest > wanted } ?? true)
        case .position(let text): LSN(text).map { $0 >= branch.fork && $0 < branch.end } ?? false
        case .name, .immediate: false
        }
      guard isOpen else { continue }
      return (
        "timelines \(branch.timeline) and \(followed.timeline) part at \(branch.fork); \(text(branch, commits)), and "
          + "\(text(WALBranch(followed, behind: branch.fork, inventory), own))",
        "say which one production went on with, by --timeline \(branch.timeline) or --timeline \(followed.timeline) "
          + "(the other may be a copy that was promoted for a test and archives here)"
      )
    }
    return nil
  }

  /// Advice for a target that is not reached, with how far the others go.
  ///
  /// - Throws: ``DRError`` when it could not look.
  mutating func advice(beside advice: String) async throws -> String {
    var all = advice
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
    return "timeline \(branch.timeline) goes through \(branch.end) with \(times) of its own"
  }
}
