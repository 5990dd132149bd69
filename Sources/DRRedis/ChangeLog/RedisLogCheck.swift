public import DRCore
import DRStorage
import Foundation
public import Logging

/// Does the change log go on without a gap from each snapshot, and can every segment of it be read?
public struct RedisLogCheck: Verifier {
  public var archive: RedisLogArchive
  public var backups: [BackupManifest]
  /// Read every segment, not only their names.
  public var readsAll: Bool

  public init(archive: RedisLogArchive, backups: [BackupManifest], readsAll: Bool = true) {
    self.archive = archive
    self.backups = backups
    self.readsAll = readsAll
  }

  public func verify(logger: Logger) async throws -> [Finding] {
    let lines = try await archive.lines()
    var findings: [Finding] = []
    for line in lines {
      let stretches = line.stretches
      for (before, after) in zip(stretches, stretches.dropFirst()) {
        findings.append(
          Finding(
            "change-log-gap", .warning, subject: line.id,
            evidence: "nothing between offset \(before.upperBound) and \(after.lowerBound)",
            advice: "nothing in between can be restored; a snapshot behind it is needed for what follows"))
      }
      guard readsAll else { continue }
      var damaged = 0
      for segment in line.segments {
        do {
          _ = try await archive.read(segment, line: line.id)
        } catch let error as DRError where error.code != .tierUnavailable {
          damaged += 1
          findings.append(
            Finding(
              "change-log-segment", .failure, subject: segment.name, evidence: error.message,
              advice: "take it from another tier; until then no restore goes beyond offset \(segment.start)"))
        }
      }
      if damaged == 0 {
        findings.append(
          Finding("change-log-segment", .passed, subject: line.id, evidence: "\(line.segments.count) segments read"))
      }
    }
    for backup in backups where backup.component == archive.component {
      let reach = RedisLogArchive.reach(of: backup, in: lines)
      findings.append(
        Finding(
          "change-log-reach", reach == nil ? .notice : .passed, subject: backup.id,
          evidence: reach.map { "from offset \(backup.recoveryPoint.position) through \($0)" }
            ?? "no change log goes on from it",
          advice: reach == nil ? "only the snapshot itself can be restored" : nil))
    }
    return findings
  }
}

extension RedisLogArchive {
  /// Through which offset the change log goes on from a backup without a gap; nil if it has nothing there.
  ///
  /// - Throws: As the tier's `list`.
  public func reach(of backup: BackupManifest) async throws -> Int64? {
    RedisLogArchive.reach(of: backup, in: try await lines())
  }

  static func reach(of backup: BackupManifest, in lines: [ChangeLine]) -> Int64? {
    guard let start = ReplicationPosition(backup.recoveryPoint) else { return nil }
    return lines.compactMap { $0.chain(from: start).map { $0.last?.end ?? start.offset } }.max()
  }

  /// Whether a backup with this recovery point can go on to a position: for ``Catalog``.
  public static func reaches(_ point: RecoveryPoint, _ position: String) -> Bool {
    guard let start = ReplicationPosition(point) else { return false }
    if let wanted = ReplicationPosition(parsing: position) {
      return start.history == wanted.history && start.offset <= wanted.offset
    }
    return Int64(position).map { start.offset <= $0 } ?? false
  }
}
