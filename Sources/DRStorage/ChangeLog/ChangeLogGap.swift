import DRCore

/// What a log lacks of what a backup needs, as far as the names of its segments say: what is in them, a check of the log itself reads.
package struct ChangeLogGap: Hashable, Sendable {
  /// What is missing, in words.
  package var evidence: String
  /// Whether the backup cannot be restored at all, not merely no further than to there.
  package var preventsRestore: Bool

  package init(_ evidence: String, preventsRestore: Bool) {
    self.evidence = evidence
    self.preventsRestore = preventsRestore
  }

  /// Of PostgreSQL: no WAL segment may be missing, on whatever timeline, from where the backup begins to the last that is there; and
  /// these reach to its end. A backup that has its own WAL goes on from there.
  static func wal(_ names: Set<String>, _ backup: BackupManifest) -> ChangeLogGap? {
    guard let size = backup.properties["walSegmentSize"]?.integer.flatMap({ $0 > 0 ? UInt64($0) : nil }),
      let start = backup.changesFrom.flatMap({ SegmentPosition.wal($0.position) }),
      let end = SegmentPosition.wal(backup.recoveryPoint.position), end >= start, end > 0
    else { return nil }
    let includesWAL = backup.properties["walIncluded"] == .bool(true)
    let last = (end - 1) / size
    let first = includesWAL ? last : start / size
    let there = Set(names.compactMap { SegmentPosition.walNumber($0, size: size) }).filter { $0 >= first }
    guard let newest = there.max() else {
      // Nobody follows the log of a backup that needs none.
      return includesWAL
        ? nil : ChangeLogGap("there is no WAL segment from \(name(first, size)) on", preventsRestore: true)
    }
    let through = includesWAL ? newest : max(newest, last)
    guard through - first < UInt64(there.count) + 1_000_000 else {
      return ChangeLogGap("most WAL segments from \(name(first, size)) on are missing", preventsRestore: !includesWAL)
    }
    let missing = (first...through).filter { !there.contains($0) }
    guard let gap = missing.first else { return nil }
    return ChangeLogGap(
      "the WAL segment \(name(gap, size)) is missing" + (missing.count > 1 ? ", and \(missing.count - 1) more" : ""),
      preventsRestore: !includesWAL && gap <= last)
  }

  /// Without the timeline.
  private static func name(_ number: UInt64, _ size: UInt64) -> String {
    let perBlock = max(1, (1 << 32) / size)
    func part(_ value: UInt64) -> String {
      let digits = String(value, radix: 16, uppercase: true)
      return String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }
    return "…\(part(number / perBlock))\(part(number % perBlock))"
  }

  /// Of Redis: what is there behind a snapshot's offset begins there, has no hole, and goes as far as the note beside it says. Nothing at all is
  /// no gap, unless the manifest says that the changes were followed.
  static func changes(_ names: Set<String>, _ backup: BackupManifest) -> ChangeLogGap? {
    guard let offset = backup.changesFrom.flatMap({ Int64($0.position) }) else { return nil }
    var reach = offset
    let ranges = names.compactMap { SegmentPosition.changes($0) }.filter { $0.upperBound > offset }
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      guard range.lowerBound <= reach else {
        return ChangeLogGap(
          "the changes from offset \(reach) to \(range.lowerBound) are missing", preventsRestore: false)
      }
      reach = max(reach, range.upperBound)
    }
    if let head = names.compactMap({ SegmentPosition.head($0) }).max(), head > reach {
      return ChangeLogGap(
        "the changes from offset \(reach) to \(head) were stored, and are missing", preventsRestore: false)
    }
    // A receiver's snapshot says that it is followed; another one, how far the log of its history was stored by then.
    let known = backup.properties["changeLogStoredThrough"]?.string?.prefix { $0 != ":" }
    let isKnown = known.map { $0 == backup.changesFrom?.history ?? "" } ?? false
    if names.isEmpty, isKnown || backup.properties["changeLogFollows"] == .bool(true) {
      return ChangeLogGap("its change log is gone", preventsRestore: false)
    }
    return nil
  }
}
