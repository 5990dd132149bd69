import DRCore

/// The way that a recovery takes through an archive, by names alone: which segments it finds, and where it ends.
///
/// As PostgreSQL goes it (`XLogFileReadAnyTLI` and `findNewestTimeLine` of its recovery): at each segment the newest
/// timeline of the history is tried first, then the older ones; the latest timeline is the last one that is found by
/// counting up from the backup's.
struct WALPath: Hashable {
  /// From the backup's timeline to the last one, in order.
  var timelines: [UInt32]
  /// The first position that the recovery cannot read.
  var end: LSN
  /// The segments that it reads, in order; the last one as far as it is stored.
  var segments: [WALSegmentName] = []
  /// Everything that is missing up to the last segment that there is, also behind the end.
  var gaps: [WALGap]

  /// - Parameters:
  ///   - start: Where the recovery starts to read.
  ///   - history: Of the timeline that it goes to.
  ///   - unusable: Segments that are there and of no use, and that the inventory leaves out: a gap, even as the last ones.
  init(
    _ inventory: WALInventory, from start: LSN, on timeline: UInt32, to history: TimelineHistory,
    unusable: [WALSegmentName] = []
  ) {
    let size = inventory.segmentSize
    let chain = (history.ancestors.map(\.timeline) + [history.timeline]).filter { $0 >= timeline }
    timelines = chain
    gaps = []
    end = start

    var isBroken = false
    let known = Array(inventory.segments.keys) + inventory.partials.keys + unusable
    let final = known.filter { name in
      chain.contains(name.timeline) && history.end(of: name.timeline).map { name.start < $0 } ?? true
    }.map(\.number).max()
    guard var number = Optional(size.segment(holding: start)), let final, final >= number else { return }
    var missing: WALGap?
    while number <= final {
      let found = WALPath.find(number, chain, history, inventory)
      if let gap = missing, found.isWhole {
        gaps.append(gap)
        missing = nil
      }
      if !isBroken, let reach = found.reach, reach > end {
        end = reach
        if let name = found.name { segments.append(name) }
      }
      if !found.isWhole {
        isBroken = true
        // What is stored of the last segment is no gap: more of it is to come.
        if number < final || found.reach == nil {
          missing = WALGap(first: missing?.first ?? found.wanted, last: found.wanted)
        }
      }
      number += 1
    }
    if let missing { gaps.append(missing) }
  }

  private struct Found {
    /// The segment that should be there.
    var wanted: WALSegmentName
    /// The one that was found, whole or in part, and how far the way leads in it.
    var name: WALSegmentName?
    var reach: LSN?
    /// Whether the recovery can go on with the next segment.
    var isWhole: Bool
  }

  private static func find(
    _ number: UInt64, _ chain: [UInt32], _ history: TimelineHistory, _ inventory: WALInventory
  ) -> Found {
    let size = inventory.segmentSize
    let names = chain.reversed().map { WALSegmentName(timeline: $0, number: number, segmentSize: size) }.filter {
      name in
      guard let start = history.start(of: name.timeline) else { return false }
      return size.segment(holding: start) <= number && (history.end(of: name.timeline).map { name.start < $0 } ?? true)
    }
    let wanted = names.first ?? WALSegmentName(timeline: history.timeline, number: number, segmentSize: size)
    var best = Found(wanted: wanted, isWhole: false)
    for name in names {
      guard let end = inventory.end(of: name) else { continue }
      let reach = min(end, history.end(of: name.timeline) ?? end)
      if best.reach.map({ reach > $0 }) ?? true {
        best.name = name
        best.reach = reach
      }
      if name == wanted, inventory.segments[name] != nil { best.isWhole = true }
    }
    return best
  }
}
