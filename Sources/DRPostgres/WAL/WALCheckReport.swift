public import DRCore

public import struct Foundation.Date

/// What an archive of WAL is good for.
public struct WALCheckReport: Sendable {
  /// How far one backup can be recovered.
  public struct Backup: Sendable {
    public var id: String
    /// Whether the recovery becomes consistent at all.
    public var isRestorable: Bool
    /// The first position that a recovery to the latest timeline cannot read.
    public var through: LSN
    /// Everything that was committed up to then comes back: the time of the last commit that can be read, or the end of
    /// the backup itself; nil for a backup that cannot be restored.
    public var throughTime: Date?
    /// From the backup's timeline to the latest.
    public var timelines: [UInt32]
    /// What is missing on the way; behind the first gap nothing can be recovered.
    public var gaps: [WALGap]
    /// What else is wrong with the way.
    public var problem: String?
    /// Why the last commits could not be read, such as for want of a key: then ``throughTime`` is the end of the backup
    /// itself, and the recovery may go further.
    public var unread: DRError?
    /// The other timelines that the backup leads to, and that hold something of their own.
    public var others: [Branch] = []
  }

  /// A timeline that a recovery to the latest does not follow: what is there of it behind the fork.
  public struct Branch: Hashable, Sendable {
    public var timeline: UInt32
    /// The first position at which it is another log than the timeline that is followed.
    public var fork: LSN
    /// The first position that cannot be read of it.
    public var through: LSN
    /// The time of the first commit that only this one has, and of the last; nil if none was found, or could be read.
    public var firstTime: Date?
    public var throughTime: Date?
    public var gaps: [WALGap]
    /// Whether both were written to at the same time: then the archive cannot tell which of them is production's, and a
    /// recovery has to be told.
    public var isRival: Bool
  }

  /// Two contents under one name.
  public struct Conflict: Hashable, Sendable {
    /// A segment, or the history of a timeline.
    public var name: String
    public var contents: Int
    /// Where they are.
    public var objects: [ObjectKey] = []
  }

  /// Something that is there and cannot be used.
  public struct Damage: Sendable {
    /// A segment, full or partial, or the history of a timeline.
    public var name: String
    public var error: DRError
  }

  public var systemIdentifier: String
  public var backups: [Backup]
  public var conflicts: [Conflict]
  /// Names in the archive that are none of this cluster's.
  public var foreign: [String]
  /// Of what was read.
  public var damaged: [Damage] = []
  /// How many files were read and digested; nil if only the ends of the log were looked at.
  public var filesRead: Int?
  /// Timelines whose histories are not there, though WAL of them is, or of one that comes from them: a recovery does not find
  /// them.
  public var missingHistories: [UInt32] = []

  /// The same as findings: `wal-restorable`, `wal-gap` and `wal-timeline` for each backup, `wal-history`, `wal-conflict`,
  /// `wal-digest`, `wal-foreign`, `wal-read`.
  public var findings: [Finding] {
    var findings: [Finding] = []
    for backup in backups {
      let time = backup.throughTime.map { "\(Timestamp.format($0))" } ?? "a time that is not known"
      let way = backup.timelines.map(String.init).joined(separator: ", ")
      let reach =
        backup.unread.map {
          "and at least \(time), when the backup ended, for the last commits cannot be read: \($0.message)"
        } ?? time
      findings.append(
        backup.isRestorable
          ? Finding(
            "wal-restorable", backup.problem == nil ? .passed : .warning, subject: backup.id,
            evidence: "recovers through \(backup.through), \(reach), on timeline \(way)"
              + (backup.problem.map { "; \($0)" } ?? ""), advice: backup.problem == nil ? backup.unread?.advice : nil)
          : Finding(
            "wal-restorable", .failure, subject: backup.id,
            evidence: backup.problem ?? "the WAL ends at \(backup.through), before the backup is consistent",
            advice: "find the missing WAL on the server or another tier; without it this backup is of no use"))
      for gap in backup.gaps {
        findings.append(
          Finding(
            "wal-gap", .failure, subject: backup.id, evidence: "\(gap)",
            advice: "find the segments on the server or another tier, and push them; else take a new base backup"))
      }
      findings += backup.others.map { $0.finding(of: backup) }
    }
    for timeline in missingHistories {
      findings.append(
        Finding(
          "wal-history", .failure, subject: "\(WALFileName.history(timeline: timeline))",
          evidence:
            "it is not there, though WAL of timeline \(timeline) is, or of one that comes from it: a recovery does not find it",
          advice: "push it from pg_wal of a server that was on that timeline (dr-wal push)"))
    }
    for conflict in conflicts {
      findings.append(
        Finding(
          "wal-conflict", .failure, subject: conflict.name,
          evidence: "\(conflict.contents) different contents under one name"
            + (conflict.objects.isEmpty ? "" : ": " + conflict.objects.map(\.rawValue).joined(separator: " and ")),
          advice: "two servers wrote one archive: find which one is right before anything is removed"))
    }
    for damage in damaged {
      let place = damage.error.object.map { " (\($0))" } ?? ""
      findings.append(
        Finding(
          "wal-digest", .failure, subject: damage.name, evidence: damage.error.message + place,
          advice: "push the segment again from the server, or take it from another tier"))
    }
    for name in foreign.prefix(10) {
      findings.append(
        Finding("wal-foreign", .notice, subject: name, evidence: "no WAL file of a cluster with segments of this size"))
    }
    if let filesRead {
      findings.append(
        Finding("wal-read", .passed, subject: systemIdentifier, evidence: "\(filesRead) files were read and digested"))
    }
    return findings
  }
}

extension WALCheckReport.Branch {
  fileprivate func finding(of backup: WALCheckReport.Backup) -> Finding {
    var evidence = "from \(fork) on, timeline \(timeline) recovers through \(through)"
    if let firstTime, let throughTime {
      evidence += ", with commits from \(Timestamp.format(firstTime)) to \(Timestamp.format(throughTime))"
    } else {
      evidence += ", without a commit that could be read"
    }
    for gap in gaps { evidence += "; \(gap)" }
    let followed = backup.timelines.last.map { "timeline \($0)" } ?? "the timeline that is followed"
    return isRival
      ? Finding(
        "wal-timeline", .failure, subject: backup.id,
        evidence: evidence
          + "; \(followed), which a restore would follow, does not begin after that: two servers have archived here",
        advice:
          "find out which one is production's (a copy that was promoted for a test must not archive here): restore, and "
          + "check, with --timeline \(timeline) if it is this one, else with that of the other")
      : Finding(
        "wal-timeline", .notice, subject: backup.id, evidence: evidence,
        advice: "what only this timeline has comes back with --timeline \(timeline)")
  }
}
