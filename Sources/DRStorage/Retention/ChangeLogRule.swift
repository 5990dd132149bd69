import DRCore

import struct Foundation.Date

/// Which segments of a change log retention may remove.
///
/// A segment is removed if it was stored before the oldest backup of its system began, by a margin: what it holds is older
/// than that. This needs no knowledge of positions, and a copy on another tier, which is younger, is only kept for longer.
/// Backups count until they are gone for good, also those that are marked.
public struct ChangeLogRule: Sendable {
  /// The folder of the log within its component's: `wal`.
  public var log: String
  /// In seconds: more than the clocks of the tier and of the source may differ.
  public var margin: Double
  /// Segments that are always kept, by name: few, and needed across the log (PostgreSQL's timeline histories).
  public var alwaysKept: @Sendable (_ name: String) -> Bool

  public init(
    log: String, margin: Duration = .seconds(3600),
    alwaysKept: @escaping @Sendable (_ name: String) -> Bool = { _ in false }
  ) {
    self.log = log
    self.margin = margin / .seconds(1)
    self.alwaysKept = alwaysKept
  }

  /// PostgreSQL's.
  public static let wal = ChangeLogRule(log: "wal") { $0.hasSuffix(".history") }

  /// The moment before which nothing is needed, from the backups of one system; nil: everything is.
  func horizon(of backups: some Sequence<BackupManifest>) -> Date? {
    backups.map { min($0.started, $0.recoveryPoint.time, $0.changesFrom?.time ?? $0.started) }.min()?
      .addingTimeInterval(-margin)
  }

  func isNeeded(_ name: String, stored: Date, after horizon: Date?) -> Bool {
    guard let horizon else { return true }
    return stored >= horizon || alwaysKept(name)
  }
}
