import DRCore
import Foundation
import Logging

/// Reads segments for a ``WALCheck``, each once, and remembers what it saw: the last commit, or that it is of no use.
struct WALCheckReader {
  private let archive: WALArchive
  private let logger: Logger
  /// What cannot be used of what there is, by name.
  private(set) var damage: [String: DRError] = [:]
  private(set) var filesRead = 0
  private var commits: [WALSegmentName: Date?] = [:]

  /// How many segments are read to find a commit. Quiet servers write checkpoints only.
  private static let segmentsRead = 16

  /// Without the key nothing is known of any of them, and what is not there was superseded or pruned meanwhile.
  private static let unusable = WALArchive.unreadable.subtracting([.noMatchingIdentity, .objectNotFound])

  init(_ archive: WALArchive, _ logger: Logger) {
    self.archive = archive
    self.logger = logger
  }

  /// Reads and digests everything: segments, also partial ones, and histories.
  ///
  /// - Throws: ``DRError`` when it could not look: `noMatchingIdentity`, `tierUnavailable`.
  mutating func readAll(_ inventory: WALInventory) async throws {
    for name in try await archive.names() { try await read(name) }
    let partials = inventory.partials.keys.filter { inventory.segments[$0] == nil }
    for segment in partials.sorted(by: { $0.start < $1.start }) { try await read("\(segment)") }
  }

  private mutating func read(_ name: String) async throws {
    do {
      _ = try await archive.fetch(name)
      filesRead += 1
    } catch let error as DRError where WALCheckReader.unusable.contains(error.code) {
      filesRead += 1
      damage[name] = error
    } catch let error as DRError where error.code == .objectNotFound {
      return
    }
  }

  /// The histories of which there is one content, and that can be read.
  mutating func histories(_ inventory: WALInventory) async throws -> [UInt32: TimelineHistory] {
    var histories: [UInt32: TimelineHistory] = [:]
    for (timeline, contents) in inventory.histories where contents == 1 {
      do {
        histories[timeline] = try await archive.history(of: timeline)
      } catch let error as DRError where WALCheckReader.unusable.contains(error.code) {
        damage["\(WALFileName.history(timeline: timeline))"] = error
      }
    }
    return histories
  }

  /// What of a way can be used, as far as it was read, and the time of the last commit in it; nil if none was found, or
  /// if it could not be read, for this reason.
  mutating func end(
    of segments: [WALSegmentName], _ inventory: WALInventory
  ) async throws -> (usable: ArraySlice<WALSegmentName>, commit: Date?, unread: DRError?) {
    var usable = segments.prefix { damage["\($0)"] == nil && inventory.segments[$0] ?? 0 <= 1 }
    for segment in usable.reversed().prefix(WALCheckReader.segmentsRead) {
      do {
        if let commit = try await lastCommit(in: segment) { return (usable, commit, nil) }
      } catch let error as DRError where WALCheckReader.unusable.contains(error.code) {
        damage["\(segment)"] = error
        usable = usable.prefix { $0 != segment }
      } catch let error as DRError where error.code == .noMatchingIdentity || error.code == .objectNotFound {
        logger.info(
          "the time of the last commit cannot be read",
          metadata: ["postgres.wal.segment": "\(segment)", "error": "\(error)"])
        return (usable, nil, error)
      }
    }
    return (usable, nil, nil)
  }

  private mutating func lastCommit(in segment: WALSegmentName) async throws -> Date? {
    if let known = commits[segment] { return known }
    let content = try await archive.fetch("\(segment)")
    let commit = content.withUnsafeReadableBytes { WALScanner.scan($0, as: segment) }.lastTransaction?.time
    commits[segment] = .some(commit)
    return commit
  }
}
