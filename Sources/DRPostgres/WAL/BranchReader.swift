import DRCore
import Foundation

/// When the commits, and aborts, were made that a branch holds behind its fork.
struct BranchCommits: Hashable {
  var oldest: Date
  var newest: Date
}

/// Reads when branches of an archive were written to, each once.
struct BranchReader {
  private let archive: WALArchive
  private var known: [WALBranch: BranchCommits?] = [:]

  /// How many segments are read from either end to find a commit. Quiet servers write checkpoints only.
  private static let segmentsRead = 16

  init(_ archive: WALArchive) { self.archive = archive }

  /// When a branch was written to and, behind the same fork, the timeline that is followed.
  struct Comparison {
    /// Nil if no commit of its own was found.
    var other: BranchCommits?
    var own: BranchCommits?

    /// Whether the archive cannot tell that the followed timeline came after the other one.
    ///
    /// After a promotion the former primary writes no more: its commits are older than the first one of the new timeline.
    /// Two servers that write at the same time are a copy, and production; which is which, the log does not say.
    var isRival: Bool { other.map { other in own.map { other.newest > $0.oldest } ?? true } ?? false }
  }

  /// - Throws: ``DRError`` when it could not look: `tierUnavailable`.
  mutating func compare(
    _ branch: WALBranch, with followed: TimelineHistory, _ inventory: WALInventory
  ) async throws -> Comparison {
    Comparison(
      other: try await commits(of: branch),
      own: try await commits(of: WALBranch(followed, behind: branch.fork, inventory)))
  }

  /// Where a branch has a restore point of a name of its own; it reads all of it.
  func holds(_ name: String, _ branch: WALBranch) async throws -> Bool {
    for segment in branch.segments {
      guard let scan = try await scan(segment, of: branch) else { continue }
      if scan.restorePoints.contains(where: { $0.name == name && $0.start >= branch.fork }) { return true }
    }
    return false
  }

  /// Nil if none was found in the segments that were read, or can be read.
  mutating func commits(of branch: WALBranch) async throws -> BranchCommits? {
    if let commits = known[branch] { return commits }
    var found = try await first(in: branch.segments.prefix(BranchReader.segmentsRead), of: branch)
    if let first = found,
      let last = try await self.first(in: branch.segments.reversed().prefix(BranchReader.segmentsRead), of: branch)
    {
      found = BranchCommits(oldest: first.oldest, newest: max(first.newest, last.newest))
    }
    known[branch] = .some(found)
    return found
  }

  /// Of the first segment that holds one.
  private func first(in segments: some Sequence<WALSegmentName>, of branch: WALBranch) async throws -> BranchCommits? {
    for segment in segments {
      if let scan = try await scan(segment, of: branch), let oldest = scan.oldestTime, let newest = scan.newestTime {
        return BranchCommits(oldest: oldest, newest: newest)
      }
    }
    return nil
  }

  private func scan(_ segment: WALSegmentName, of branch: WALBranch) async throws -> WALScan? {
    do {
      let content = try await archive.fetch("\(segment)")
      return content.withUnsafeReadableBytes { WALScanner.scan($0, as: segment, behind: branch.fork) }
    } catch let error as DRError where WALArchive.unreadable.contains(error.code) {
      return nil
    }
  }
}
