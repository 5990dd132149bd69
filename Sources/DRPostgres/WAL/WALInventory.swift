import DRCore
import DRStorage

/// What an archive holds, by the names of its objects alone.
package struct WALInventory: Sendable {
  /// How many contents there are of each full segment: more than one is a conflict.
  package private(set) var segments: [WALSegmentName: Int] = [:]
  /// How far each segment reaches that is stored in part, in bytes from its start.
  package private(set) var partials: [WALSegmentName: Int] = [:]
  /// The timelines whose histories there are, and how many contents of each.
  package private(set) var histories: [UInt32: Int] = [:]
  /// Names that are none of a cluster with segments of this size.
  package private(set) var foreign: [String] = []
  package let segmentSize: WALSegmentSize

  init(_ infos: [SegmentInfo], segmentSize: WALSegmentSize) {
    self.init(
      names: infos.filter { !$0.isPartial }.map(\.name), partials: infos.filter(\.isPartial).map(\.name),
      segmentSize: segmentSize)
  }

  /// - Parameters:
  ///   - names: Of what is stored for good, once for each content.
  ///   - partials: Of segments that are stored in part: with their reach.
  package init(names: [String], partials: [String], segmentSize: WALSegmentSize) {
    self.segmentSize = segmentSize
    for name in names { add(name) }
    for name in partials { addPartial(name) }
  }

  private mutating func add(_ name: String) {
    switch try? WALFileName(parsing: name, segmentSize: segmentSize) {
    case .segment(let segment): segments[segment, default: 0] += 1
    case .history(let timeline): histories[timeline, default: 0] += 1
    case .backupLabel: break
    case .partial, nil: foreign.append(name)
    }
  }

  private mutating func addPartial(_ name: String) {
    guard let partial = WALPartialName(parsing: name), partial.reach <= segmentSize.bytes,
      let segment = try? WALSegmentName(parsing: partial.segment, segmentSize: segmentSize)
    else {
      foreign.append(name)
      return
    }
    partials[segment] = max(partials[segment] ?? 0, partial.reach)
  }

  /// Takes note of what was stored since.
  mutating func insert(_ segment: WALSegmentName, reach: Int) {
    if reach == segmentSize.bytes {
      segments[segment] = segments[segment] ?? 1
      partials[segment] = nil
    } else {
      partials[segment] = max(partials[segment] ?? 0, reach)
    }
  }

  /// The one that the archive begins on: it needs no history.
  var lowestTimeline: UInt32? { timelines.first }

  /// Those of which there is WAL, in order.
  var timelines: [UInt32] { Set(segments.keys.map(\.timeline) + partials.keys.map(\.timeline)).sorted() }

  package var isEmpty: Bool { segments.isEmpty && partials.isEmpty }

  /// The latest timeline, as a server finds it: counting up for as long as there is a history.
  func latestTimeline(from timeline: UInt32) -> UInt32 {
    var latest = timeline
    while latest < .max, histories[latest + 1] != nil { latest += 1 }
    return latest
  }

  /// The timelines above another one whose histories are not there, though WAL of them is, or a history that names them: a server
  /// that counts up finds neither them nor what comes after.
  func missingHistories(_ known: [UInt32: TimelineHistory], above timeline: UInt32) -> [UInt32] {
    let used = Set(timelines).union(known.values.flatMap { $0.ancestors.map(\.timeline) })
    return used.filter { $0 > timeline && histories[$0] == nil }.sorted()
  }

  /// What there would be without the segments that have two contents: a recovery stops at those.
  func withoutConflicts() -> WALInventory {
    var inventory = self
    inventory.segments = segments.filter { $0.value == 1 }
    return inventory
  }

  /// The first position that is not there of a segment: its end, where it is full.
  func end(of segment: WALSegmentName) -> LSN? {
    if segments[segment] != nil { return segment.end }
    return partials[segment].map { segment.start.advanced(by: UInt64($0)) }
  }

  /// The first position at or after `start`, and before `end`, that is not there on the way to a timeline; nil if
  /// everything is. A segment in which a timeline starts also counts on the timeline before, up to the fork.
  func firstMissing(from start: LSN, through end: LSN, to history: TimelineHistory) -> LSN? {
    var position = start
    while position < end {
      let timeline = history.timeline(holding: position)
      // The log of a timeline up to its fork is the start of the newer timelines' segment as well.
      let newer = [history.timeline] + history.ancestors.reversed().map(\.timeline)
      let reach = newer.filter { $0 >= timeline }.compactMap { other -> LSN? in
        let segment = WALSegmentName(timeline: other, holding: position, segmentSize: segmentSize)
        guard let reach = self.end(of: segment), reach > position else { return nil }
        return min(reach, history.end(of: other) ?? reach)
      }.max()
      guard let reach, reach > position else { return position }
      position = reach
    }
    return nil
  }
}
