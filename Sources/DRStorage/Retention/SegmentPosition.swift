import DRCore

/// What the names of segments say of their place in the log, as far as retention has to know it.
enum SegmentPosition {
  /// A WAL segment's name is its timeline, and its number in two parts of 8 hexadecimal digits (PostgreSQL's `xlog_internal.h`,
  /// `XLogFileName`). It is needed from the one on that holds the position where the backup's WAL starts, on whatever timeline.
  static func isWALNeeded(_ name: String, _ backup: BackupManifest) -> Bool {
    guard let (block, number) = parts(name), let position = backup.changesFrom.flatMap({ wal($0.position) })
    else { return false }
    let (high, low) = (position >> 32, position & 0xFFFF_FFFF)
    // Without its size, as in manifests of older versions, a segment may be as large as they get.
    let stated = backup.properties["walSegmentSize"]?.integer.map { UInt64(max(1 << 20, $0)) }
    let size = stated ?? 1 << 30
    return block > high || block == high && min((number + 1) * size, 1 << 32) > low
  }

  private static func parts(_ name: String) -> (block: UInt64, number: UInt64)? {
    guard name.utf8.count >= 24, let block = UInt64(name.dropFirst(8).prefix(8), radix: 16),
      let number = UInt64(name.dropFirst(16).prefix(8), radix: 16)
    else { return nil }
    return (block, number)
  }

  /// The number of a segment, full or partial, whatever its timeline; nil: it is none, but a history or the label of a backup.
  static func walNumber(_ name: String, size: UInt64) -> UInt64? {
    guard !name.hasSuffix(".backup"), let (block, number) = parts(name) else { return nil }
    let perBlock = (1 << 32) / size
    guard block < 1 << 32, number < perBlock else { return nil }
    return block * perBlock + number
  }

  /// A position in the WAL, as PostgreSQL writes it: two halves in hexadecimal digits.
  static func wal(_ position: String) -> UInt64? {
    let halves = position.split(separator: "/")
    guard halves.count == 2, let high = UInt64(halves[0], radix: 16), let low = UInt64(halves[1], radix: 16),
      high < 1 << 32, low < 1 << 32
    else { return nil }
    return high << 32 | low
  }

  /// The offset of a note that says how far Redis' changes are stored.
  static func head(_ name: String) -> Int64? {
    let parts = name.split(separator: "-")
    return parts.count == 3 && parts[0] == "head" ? Int64(parts[1]) : nil
  }

  /// The offsets of a segment of Redis' changes.
  static func changes(_ name: String) -> Range<Int64>? {
    let parts = name.split(separator: "-")
    guard parts.count == 3, let start = Int64(parts[0]), let end = Int64(parts[1]), start <= end else { return nil }
    return start..<end
  }

  /// A folder of Redis' changes is a line of them, named for the replication ID with which it began. A failover changes the ID
  /// within it.
  static func isOfLine(_ folder: String, _ names: Set<String>, _ backup: BackupManifest) -> Bool {
    guard let history = backup.changesFrom?.history else { return false }
    return folder == history || names.contains { $0.hasSuffix("-\(history)") }
  }

  /// Whether a partial segment of Redis' changes lies within another one. After a restart of the receiver none does: it stays.
  static func isChangeReplaced(_ partial: String, by other: String) -> Bool {
    let (short, long) = (partial.split(separator: "-"), other.split(separator: "-"))
    guard short.count == 3, long.count == 3, short[0] == long[0], short[2] == long[2], let end = Int64(short[1]),
      let further = Int64(long[1])
    else { return false }
    return end < further
  }

  /// A segment of Redis' changes is named for the offsets where it begins and ends, and the replication ID.
  static func isChangeNeeded(_ name: String, _ backup: BackupManifest) -> Bool {
    guard let changes = changes(name), let offset = backup.changesFrom.flatMap({ Int64($0.position) }) else {
      return false
    }
    return changes.upperBound > offset
  }
}
