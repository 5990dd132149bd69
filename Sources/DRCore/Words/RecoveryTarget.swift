public import struct Foundation.Date

/// How far a restore goes.
public enum RecoveryTarget: Hashable, Sendable {
  /// To the end of everything that was stored.
  case latest
  /// To the first consistent state of the backup.
  case immediate
  /// To the last transaction or change that was committed at or before a moment.
  case time(Date)
  /// To a position of the system's own kind, as in ``RecoveryPoint/position``.
  case position(String)
  /// To a point that was named on the source beforehand.
  case name(String)
}
