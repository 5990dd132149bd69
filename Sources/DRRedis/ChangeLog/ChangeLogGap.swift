import DRCore

/// A gap of which the snapshot behind it says: between the last change of the log and the snapshot, nothing was received.
package struct ChangeLogGap: Hashable, Sendable, CustomStringConvertible {
  /// Where the log ended, and where the snapshot is.
  package var after: ReplicationPosition
  package var until: ReplicationPosition

  package var description: String {
    after.history == until.history
      ? "nothing between offset \(after.offset) and \(until.offset) of history \(until.history)"
      : "nothing between offset \(after.offset) of history \(after.history) and offset \(until.offset) of history \(until.history)"
  }
}

extension BackupManifest {
  static let gapProperty = "changeLogEndedAt"

  /// Nil where the snapshot was taken behind no gap.
  package var changeLogGap: ChangeLogGap? {
    guard let after = properties[Self.gapProperty]?.string.flatMap({ ReplicationPosition(parsing: $0) }),
      let until = ReplicationPosition(recoveryPoint)
    else { return nil }
    return ChangeLogGap(after: after, until: until)
  }
}
