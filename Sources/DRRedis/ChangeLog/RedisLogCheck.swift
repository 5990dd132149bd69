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
    let own = backups.filter { $0.component == archive.component }
    let lines = try await archive.lines().knowing(own)
    var findings: [Finding] = []
    /// The ends of gaps that the segments tell of.
    var named: Set<Int64> = []
    for line in lines {
      for stretch in line.stretches {
        guard let hole = line.hole(after: stretch.upperBound), isOf(hole, line, own),
          let finding = try await finding(hole)
        else { continue }
        findings.append(finding)
        named.insert(hole.end)
      }
    }
    var reading = readsAll ? LogReading(archive, lines, own) : nil
    var reaches: [Finding] = []
    for backup in own.sorted(by: { $0.offset < $1.offset }) {
      if let gap = backup.changeLogGap, !named.contains(gap.until.offset) { reaches.append(finding(gap, backup)) }
      reaches.append(try await reach(of: backup, lines, &reading))
    }
    if readsAll {
      try await reading?.readRest()
      if let reading { findings += lines.flatMap { segments(of: $0, reading) } }
    }
    return findings + lines.flatMap { orphans(of: $0, own) } + reaches
  }

  /// What cannot be read of a line.
  private func segments(of line: ChangeLine, _ reading: LogReading) -> [Finding] {
    let unreadable = reading.unreadable[line.id] ?? [:]
    guard !unreadable.isEmpty else {
      return [
        Finding("change-log-segment", .passed, subject: line.id, evidence: "\(line.segments.count) segments read")
      ]
    }
    return unreadable.sorted { $0.key.start < $1.key.start }.map { segment, error in
      let isSpared = reading.ways.contains {
        $0.line == line.id && $0.start.offset < segment.end && segment.end <= $0.end.offset
      }
      return Finding(
        "change-log-segment", .failure, subject: segment.name, evidence: error.message,
        advice: isSpared
          ? "other segments hold what it held, and restores take it from those; take it from another tier all the same"
          : "take it from another tier; until then no restore goes beyond offset \(segment.start)")
    }
  }

  /// How far a backup can be brought.
  private func reach(
    of backup: BackupManifest, _ lines: [ChangeLine], _ reading: inout LogReading?
  ) async throws -> Finding {
    let start = ReplicationPosition(backup.recoveryPoint)
    var reach = RedisLogArchive.reach(of: backup, in: lines)
    if let start, let way = try await reading?.way(from: start) {
      reach = way.end.offset
      if let obstacle = way.obstacle {
        return Finding(
          "change-log-reach", .failure, subject: backup.id,
          evidence: "from offset \(start.offset) through \(max(way.end.offset, start.offset)) only: \(obstacle.message)"
            + (obstacle.object.map { " (\($0))" } ?? ""),
          advice: "take it from another tier; take a backup now, for the log goes on from that one")
      }
    }
    if let reach {
      return Finding(
        "change-log-reach", .passed, subject: backup.id,
        evidence: "from offset \(backup.recoveryPoint.position) through \(reach)")
    }
    if let hole = try await archive.lostFirst(behind: backup, in: lines) {
      return Finding(
        "change-log-reach", .failure, subject: backup.id,
        evidence: "the first changes behind it are missing: \(hole.description)", advice: Self.repair)
    }
    if let start, lines.contains(where: { $0.wentAnotherWay(before: start) }) {
      return Finding(
        "change-log-reach", .warning, subject: backup.id,
        evidence:
          "the change log went another way before offset \(start.offset): a server took over that was not there yet",
        advice:
          "only the snapshot itself can be restored; what followed is reached from an earlier or a later backup")
    }
    if lines.hasLostAll(behind: backup) {
      return Finding(
        "change-log-reach", .failure, subject: backup.id,
        evidence: "the receiver that took it followed the server from there, and nothing of that change log is left",
        advice: Self.repair)
    }
    return Finding(
      "change-log-reach", .notice, subject: backup.id, evidence: "no change log goes on from it",
      advice: "only the snapshot itself can be restored")
  }

  private static let repair =
    "bring the missing segments back from a copy (dr-repository replicate); take a backup now, for the log goes on from that one"

  /// Stretches of the log to which no backup leads.
  private func orphans(of line: ChangeLine, _ backups: [BackupManifest]) -> [Finding] {
    let starts = backups.compactMap { ReplicationPosition($0.recoveryPoint) }
      .filter { line.chain(from: $0) != nil || line.hole(behind: $0) != nil }.map(\.offset)
    return line.stretches.filter { stretch in
      // A hole between a backup and the stretch is a finding of its own.
      !starts.contains { $0 <= stretch.upperBound }
    }.map { stretch in
      Finding(
        "change-log-reach", .warning, subject: line.id,
        evidence: "no backup leads to offset \(stretch.lowerBound) to \(stretch.upperBound) of the log",
        advice:
          "nothing of it can be restored: see whether a backup was lost, or its manifest cannot be read; take a backup now"
      )
    }
  }

  /// The end of a log is missed only if there is a backup that needs it: retention removes a log from its beginning.
  private func isOf(_ hole: ChangeHole, _ line: ChangeLine, _ backups: [BackupManifest]) -> Bool {
    guard hole.behind == nil else { return true }
    return backups.compactMap { ReplicationPosition($0.recoveryPoint) }.contains {
      line.knows($0.history) && $0.offset < hole.end
    }
  }

  /// A gap that the receiver named when it took a snapshot.
  private func finding(_ gap: ChangeLogGap, _ backup: BackupManifest) -> Finding {
    Finding(
      "change-log-gap", .warning, subject: backup.id, evidence: "\(gap): the receiver named it and took this snapshot",
      advice: "nothing in between can be restored")
  }

  /// Nil where there is none after all.
  private func finding(_ hole: ChangeHole) async throws -> Finding? {
    let evidence = "nothing between offset \(hole.start) and \(hole.end) of history \(hole.history)"
    guard try await archive.isLoss(hole) else {
      guard hole.behind != nil else { return nil }
      return Finding(
        "change-log-gap", .warning, subject: hole.line, evidence: evidence + ": the receiver was away for too long",
        advice: "nothing in between can be restored; a snapshot behind it is needed for what follows")
    }
    return Finding(
      "change-log-gap", .failure, subject: hole.line,
      evidence: evidence
        + (hole.behind == nil
          ? ": the last segments of the log, which were stored, are missing"
          : ": segments that were stored are missing"),
      advice: Self.repair)
  }
}

extension BackupManifest {
  /// Where its stream is; -1 where that is not said.
  fileprivate var offset: Int64 { ReplicationPosition(recoveryPoint)?.offset ?? -1 }
}

extension RedisLogArchive {
  /// Through which offset the change log goes on from a backup without a gap; nil if it has nothing there.
  ///
  /// - Throws: As the tier's `list`.
  public func reach(of backup: BackupManifest) async throws -> Int64? {
    RedisLogArchive.reach(of: backup, in: try await lines())
  }

  /// What is missing of the log right behind a backup from which no chain goes on; nil if there is no log of its history
  /// behind it, or if that begins with a snapshot of its own.
  func lostFirst(behind backup: BackupManifest, in lines: [ChangeLine]) async throws -> ChangeHole? {
    guard let start = ReplicationPosition(backup.recoveryPoint) else { return nil }
    for hole in lines.compactMap({ $0.hole(behind: start) }).sorted(by: { $0.end < $1.end })
    where try await isLoss(hole) {
      return hole
    }
    return nil
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
