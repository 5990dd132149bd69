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
    var broken: Set<ChangeSegment> = []
    /// The ends of gaps that the segments tell of.
    var named: Set<Int64> = []
    let own = backups.filter { $0.component == archive.component }
    for line in lines {
      for stretch in line.stretches {
        guard let hole = line.hole(after: stretch.upperBound), isOf(hole, line, own),
          let finding = try await finding(hole)
        else { continue }
        findings.append(finding)
        named.insert(hole.end)
      }
      guard readsAll else { continue }
      var damaged = 0
      for segment in line.segments {
        do {
          _ = try await archive.read(segment, line: line.id)
        } catch let error as DRError where error.code != .tierUnavailable {
          damaged += 1
          broken.insert(segment)
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
    findings += lines.flatMap { orphans(of: $0, own) }
    for backup in own {
      if let gap = backup.changeLogGap, !named.contains(gap.until.offset) { findings.append(finding(gap, backup)) }
      if let finding = damage(behind: backup, lines, broken) {
        findings.append(finding)
        continue
      }
      let reach = RedisLogArchive.reach(of: backup, in: lines)
      if reach == nil, let hole = try await archive.lostFirst(behind: backup, in: lines) {
        findings.append(
          Finding(
            "change-log-reach", .failure, subject: backup.id,
            evidence: "the first changes behind it are missing: \(hole.description)", advice: Self.repair))
        continue
      }
      if let start = ReplicationPosition(backup.recoveryPoint),
        lines.contains(where: { $0.wentAnotherWay(before: start) }),
        reach == nil
      {
        findings.append(
          Finding(
            "change-log-reach", .warning, subject: backup.id,
            evidence:
              "the change log went another way before offset \(start.offset): a server took over that was not there yet",
            advice:
              "only the snapshot itself can be restored; what followed is reached from an earlier or a later backup"))
        continue
      }
      findings.append(
        Finding(
          "change-log-reach", reach == nil ? .notice : .passed, subject: backup.id,
          evidence: reach.map { "from offset \(backup.recoveryPoint.position) through \($0)" }
            ?? "no change log goes on from it",
          advice: reach == nil ? "only the snapshot itself can be restored" : nil))
    }
    return findings
  }

  private static let repair =
    "bring the missing segments back from a copy (dr-repository replicate); take a backup now, for the log goes on from that one"

  /// How far a backup can be brought, if something on the way to the log's end is damaged.
  private func damage(
    behind backup: BackupManifest, _ lines: [ChangeLine], _ broken: Set<ChangeSegment>
  ) -> Finding? {
    guard !broken.isEmpty, let start = ReplicationPosition(backup.recoveryPoint) else { return nil }
    let chains = lines.compactMap { $0.chain(from: start) }
    guard let chain = chains.max(by: { $0.last?.end ?? -1 < $1.last?.end ?? -1 }),
      let first = chain.first(where: { broken.contains($0) })
    else { return nil }
    let end = max(first.start, start.offset)
    return Finding(
      "change-log-reach", .failure, subject: backup.id,
      evidence: "from offset \(start.offset) through \(end) only: \(first.name) behind it is damaged",
      advice: "take it from another tier; take a backup now, for the log goes on from that one")
  }

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
