/// Where to go on with what an archive holds.
package struct WALResumePoint: Hashable, Sendable {
  /// The segment to stream from its start, on the timeline to ask for.
  package var segment: WALSegmentName
  /// The first position that is not in the archive: in that segment, or at its start.
  package var durable: LSN

  init(segment: WALSegmentName, durable: LSN) {
    self.segment = segment
    self.durable = durable
  }

  /// As this one, but from the start of the last full segment, where the archive has that one on the same timeline. It comes
  /// once more and is compared with what is stored: a server with another history, such as an older copy that went on by
  /// itself, is not taken for the one whose log this is.
  func overlapping(_ inventory: WALInventory) -> WALResumePoint {
    guard segment.number > 0 else { return self }
    let previous = WALSegmentName(
      timeline: segment.timeline, number: segment.number - 1, segmentSize: inventory.segmentSize)
    guard inventory.segments[previous] != nil else { return self }
    return WALResumePoint(segment: previous, durable: durable)
  }

  /// Finds it on the way to a server's timeline; nil if the archive has nothing that lies on it.
  package init?(_ inventory: WALInventory, to history: TimelineHistory) {
    let chain = history.ancestors.map(\.timeline) + [history.timeline]
    let known = Set(inventory.segments.keys).union(inventory.partials.keys)
    for (index, timeline) in chain.enumerated().reversed() {
      let fork = history.end(of: timeline)
      // A segment behind the fork is on another branch: a server that went on alone.
      let last = known.filter { segment in
        segment.timeline == timeline && (fork.map { segment.start < $0 } ?? true)
      }.max { $0.number < $1.number }
      guard let last, let end = inventory.end(of: last) else { continue }
      if let fork, end >= fork {
        let next = WALSegmentName(
          timeline: chain[index + 1], holding: fork, segmentSize: inventory.segmentSize)
        self.init(segment: next, durable: fork)
      } else if inventory.segments[last] != nil {
        self.init(segment: last.next, durable: end)
      } else {
        self.init(segment: last, durable: end)
      }
      return
    }
    return nil
  }
}
