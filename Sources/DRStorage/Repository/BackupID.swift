import DRCore

import struct Foundation.Date

/// `backup_YYYYMMDD_HHMMSS`, in UTC, as in the plan's tree.
enum BackupID {
  static func make(at moment: Date) -> String { "backup_\(Timestamp.compact(moment))" }

  /// Only what has this form is ever listed, cleaned or deleted: anything else in the folders is somebody else's.
  static func isValid(_ text: String) -> Bool { text.wholeMatch(of: /backup_[0-9]{8}_[0-9]{6}/) != nil }
}
