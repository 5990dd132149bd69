/// Segments that an archive should have and does not.
public struct WALGap: Hashable, Sendable, CustomStringConvertible {
  /// The first and the last that are missing.
  public var first: WALSegmentName
  public var last: WALSegmentName

  public init(first: WALSegmentName, last: WALSegmentName) {
    self.first = first
    self.last = last
  }

  public var count: UInt64 { last.number - min(first.number, last.number) + 1 }

  public var description: String {
    count == 1 ? "missing \(first) (1 segment)" : "missing \(first) ... \(last) (\(count) segments)"
  }
}
