public import struct Foundation.Date

/// How far a recovery from one backup goes, as far as was looked.
public struct RecoveryReach: Hashable, Sendable {
  /// The identity of the backup.
  public var backup: String
  /// From the backup's timeline to the one that is followed.
  public var timelines: [UInt32]
  /// The first position that cannot be read.
  public var through: LSN
  /// The last position that can be a target; nil if there is no record behind the end of the backup.
  public var lastPosition: LSN?
  /// The newest commit that can be read; nil if none was looked for, or there is none behind the end of the backup.
  public var throughTime: Date?
  /// What is missing on the way. A target before the first gap is reached all the same.
  public var gaps: [WALGap]
}
