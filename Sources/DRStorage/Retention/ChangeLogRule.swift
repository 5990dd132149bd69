public import DRCore

import struct Foundation.Date

/// Which segments of a change log retention may remove.
///
/// A segment is removed if it was stored before the oldest backup of its scope began, by a margin, and if its name does not
/// say that one of them needs it. Either alone could be wrong: a storage's clock, and the times of copied files, say nothing of the
/// log, and a standby's backup begins where it last wrote everything, which may be long before. Backups count until they are gone
/// for good, also those that are marked.
public struct ChangeLogRule: Sendable {
  /// Which backups say what is needed of a folder of the log.
  public enum Scope: Sendable {
    /// Those of the system for which the folder is named: none of them, and everything is kept.
    case system
    /// All of the component: its folders are named otherwise.
    case component
  }

  /// The folder of the log within its component's: `wal`.
  public var log: String
  /// In seconds: more than the clocks of the tier and of the source may differ.
  public var margin: Double
  public var scope: Scope
  /// Whether the last segment of each folder is kept, however old: what follows the log reads there where it was.
  public var keepsNewest: Bool
  /// Segments that are always kept, by name: few, and needed across the log (PostgreSQL's timeline histories).
  public var alwaysKept: @Sendable (_ name: String) -> Bool
  /// What the names begin with of notes that say how far a folder's segments go: a copy has them only if it has all of those.
  public var notes: String?
  /// Whether another segment, by its name, holds all that a partial one does; nil: what follows the log removes a partial one only
  /// then, and so does a copy.
  public var replaces: (@Sendable (_ partial: String, _ other: String) -> Bool)?
  /// Whether a folder, of which all names are given, goes on from a backup: only then ``isNeeded`` is asked.
  public var concerns: @Sendable (_ folder: String, _ names: Set<String>, _ backup: BackupManifest) -> Bool
  /// Whether the name of a segment says that a backup needs it, whenever it was stored.
  public var isNeeded: @Sendable (_ name: String, _ backup: BackupManifest) -> Bool
  /// What a folder, of which all names are given, lacks of what a backup needs.
  package var gap: @Sendable (_ names: Set<String>, _ backup: BackupManifest) -> ChangeLogGap? = { _, _ in nil }
  /// What is missing in a folder whichever backup it is for, as far as its names say.
  public var findings: @Sendable (_ folder: String, _ names: [String], _ backups: [BackupManifest]) -> [Finding]

  public init(
    log: String, margin: Duration = .seconds(3600), scope: Scope = .system, keepsNewest: Bool = false,
    notes: String? = nil, replaces: (@Sendable (_ partial: String, _ other: String) -> Bool)? = nil,
    alwaysKept: @escaping @Sendable (_ name: String) -> Bool = { _ in false },
    concerns: @escaping @Sendable (_ folder: String, _ names: Set<String>, _ backup: BackupManifest) -> Bool = {
      _, _, _ in
      true
    },
    isNeeded: @escaping @Sendable (_ name: String, _ backup: BackupManifest) -> Bool = { _, _ in false },
    findings: @escaping @Sendable (_ folder: String, _ names: [String], _ backups: [BackupManifest]) -> [Finding] = {
      _, _, _ in
      []
    }
  ) {
    self.log = log
    self.margin = margin / .seconds(1)
    self.scope = scope
    self.keepsNewest = keepsNewest
    self.notes = notes
    self.replaces = replaces
    self.alwaysKept = alwaysKept
    self.concerns = concerns
    self.isNeeded = isNeeded
    self.findings = findings
  }

  /// PostgreSQL's.
  public static let wal = ChangeLogRule(
    log: "wal", alwaysKept: { $0.hasSuffix(".history") }, isNeeded: SegmentPosition.isWALNeeded
  ).seeing(gap: ChangeLogGap.wal)

  /// Redis': its folders are named for replication IDs, which a failover changes.
  public static let aof = ChangeLogRule(
    log: "aof", scope: .component, keepsNewest: true, notes: "head-",
    replaces: SegmentPosition.isChangeReplaced, concerns: SegmentPosition.isOfLine,
    isNeeded: SegmentPosition.isChangeNeeded
  ).seeing(gap: ChangeLogGap.changes)

  /// RabbitMQ's, where segment 0 of a queue says how far the broker has let go of it.
  public static let messages = ChangeLogRule(
    log: "messages", scope: .component, keepsNewest: true, notes: TapSequence.Head.prefix,
    alwaysKept: { $0.hasSuffix("-000000000000") || $0.hasPrefix(TapSequence.Head.prefix) },
    findings: TapSequence.findings)

  /// Of every system of this package.
  public static let all: [ChangeLogRule] = [.wal, .aof, .messages]

  package func seeing(
    gap: @escaping @Sendable (_ names: Set<String>, _ backup: BackupManifest) -> ChangeLogGap?
  ) -> ChangeLogRule {
    var rule = self
    rule.gap = gap
    return rule
  }

  /// Whether it is the key of a note, not of a segment.
  func isNote(_ key: ObjectKey) -> Bool { notes.map { key.lastComponent.hasPrefix($0) } ?? false }

  /// The moment before which nothing is needed of a folder, from the backups of one component; nil: everything is.
  func horizon(of backups: some Sequence<BackupManifest>, for folder: String) -> Date? {
    backups.filter { scope == .component || ($0.systemIdentifier ?? "") == folder }.map {
      min($0.started, $0.recoveryPoint.time, $0.changesFrom?.time ?? $0.started)
    }.min()?
    .addingTimeInterval(-margin)
  }

  /// Of what lies in one folder of the log, in the order of the keys: whether it is needed. Nil: no segment.
  func needed(
    _ objects: [ObjectInfo], of folder: String, by backups: some Sequence<BackupManifest>, after horizon: Date?
  ) -> [Bool?] {
    let backups = backups.filter { scope == .component || ($0.systemIdentifier ?? "") == folder }
    let files = objects.map { SegmentFileName(parsing: $0.key.lastComponent) }
    let names = Set(files.compactMap { $0?.name })
    let concerned = backups.filter { concerns(folder, names, $0) }
    var needed = zip(objects, files).map { object, file in
      file.map { file in
        isNeeded(file.name, stored: object.modified, after: horizon) || concerned.contains { isNeeded(file.name, $0) }
      }
    }
    guard keepsNewest else { return needed }
    var newest: [Substring: (name: String, index: Int)] = [:]
    for (index, file) in files.enumerated() {
      guard let file, file.sha256 != nil else { continue }
      let folder = objects[index].key.rawValue.dropLast(objects[index].key.lastComponent.count)
      if let last = newest[folder], !last.name.utf8.lexicographicallyPrecedes(file.name.utf8) { continue }
      newest[folder] = (file.name, index)
    }
    for last in newest.values { needed[last.index] = true }
    return needed
  }

  private func isNeeded(_ name: String, stored: Date, after horizon: Date?) -> Bool {
    guard let horizon else { return true }
    return stored >= horizon || alwaysKept(name)
  }
}
