public import struct Foundation.Date

/// What a segment, or the start of one, was found to hold.
public struct WALScan: Hashable, Sendable {
  /// The first position of the segment.
  public var start: LSN
  /// The position after the last whole, valid record; `start` if there is none.
  ///
  /// Recovery that has this segment and not the next one ends here.
  public var end: LSN
  /// Whether the log goes on to the end of the segment without a break: the next segment starts where this one ends.
  public var isComplete: Bool
  /// What the first page says; nil if there is no valid first page.
  public var header: WALSegmentHeader?
  /// The timeline of the last valid page.
  public var timeline: UInt32?
  /// The commit or abort with the latest position: its own time, and the position after its record.
  public var lastTransaction: Transaction?
  /// The newest time of any commit or abort: a later one in the log may have taken its time earlier.
  public var newestTime: Date?
  /// The oldest time of any of them.
  package var oldestTime: Date?
  /// Where the last whole, valid record starts: the last position that a recovery can be told to stop at.
  public var lastRecord: LSN?
  /// What `pg_create_restore_point` has named, in order.
  public var restorePoints: [RestorePoint] = []

  public struct RestorePoint: Hashable, Sendable {
    public var name: String
    /// Where its record starts.
    public var start: LSN
  }

  public struct Transaction: Hashable, Sendable {
    public var time: Date
    public var end: LSN
  }
}
