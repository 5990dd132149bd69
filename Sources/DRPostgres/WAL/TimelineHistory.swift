import DRCore

/// Where a timeline comes from: the content of `NNNNNNNN.history`.
///
/// One line an ancestor, the oldest first: timeline, the position where the log left it, the reason, with tabs between
/// them (PostgreSQL's `src/backend/access/transam/timeline.c`).
public struct TimelineHistory: Hashable, Sendable {
  public struct Ancestor: Hashable, Sendable {
    public let timeline: UInt32
    /// The first position that is no longer on this timeline.
    public let end: LSN
    public let reason: String
  }

  /// The timeline that this is the history of.
  public let timeline: UInt32
  /// The oldest first.
  public let ancestors: [Ancestor]

  /// The history of a timeline that has no ancestor, which timeline 1 always is.
  public init(root timeline: UInt32) {
    self.timeline = timeline
    ancestors = []
  }

  /// Reads a history file.
  ///
  /// - Throws: ``DRError`` with `malformedData` unless every line is a comment, empty or an ancestor, timelines and
  ///   positions ascend, and there is at least one ancestor.
  public init(parsing text: String, timeline: UInt32) throws {
    let object = WALFileName.history(timeline: timeline).description
    var ancestors: [Ancestor] = []
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      func refuse(_ why: String) -> DRError {
        DRError(.malformedData, "line \(index + 1) of a timeline history \(why)", object: object)
      }
      let trimmed = line.drop { $0 == " " || $0 == "\t" || $0 == "\r" }
      if trimmed.isEmpty || trimmed.hasPrefix("#") { continue }
      let fields = trimmed.split(maxSplits: 2, omittingEmptySubsequences: true) { $0 == "\t" || $0 == " " }
      guard fields.count >= 2, let number = UInt32(fields[0]), number > 0, let end = LSN(fields[1]) else {
        throw refuse("is not a timeline and a position")
      }
      guard number > ancestors.last?.timeline ?? 0, number < timeline else { throw refuse("is out of order") }
      guard end >= ancestors.last?.end ?? LSN(0) else { throw refuse("goes back to an earlier position") }
      ancestors.append(Ancestor(timeline: number, end: end, reason: fields.count > 2 ? String(fields[2]) : ""))
    }
    guard !ancestors.isEmpty else {
      throw DRError(.malformedData, "a timeline history without an ancestor", object: object)
    }
    self.timeline = timeline
    self.ancestors = ancestors
  }

  /// The timeline on which a record at this position lies.
  public func timeline(holding position: LSN) -> UInt32 {
    ancestors.first { position < $0.end }?.timeline ?? timeline
  }

  /// Where the log left an ancestor; nil for a timeline that is none, or the timeline itself.
  public func end(of ancestor: UInt32) -> LSN? { ancestors.first { $0.timeline == ancestor }?.end }

  /// Where an ancestor, or the timeline itself, starts; nil for a timeline that is neither.
  public func start(of other: UInt32) -> LSN? {
    if other == timeline { return ancestors.last?.end ?? LSN(0) }
    guard let index = ancestors.firstIndex(where: { $0.timeline == other }) else { return nil }
    return index == 0 ? LSN(0) : ancestors[index - 1].end
  }

  /// Whether a server that stands at a position on some timeline can go on to this timeline by replay.
  public func continues(from position: LSN, on other: UInt32) -> Bool {
    if other == timeline { return true }
    return end(of: other).map { position <= $0 } ?? false
  }
}
