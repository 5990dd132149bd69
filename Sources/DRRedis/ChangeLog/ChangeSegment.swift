package import DRStorage

package import struct Foundation.Date

/// A segment of the change log, by its name: `<offset before its first byte>-<offset of its last>-<replication ID>`, the
/// offsets in 20 digits.
///
/// The name says all that is needed to go on after a crash, so that a host that can only encrypt needs to read nothing.
package struct ChangeSegment: Hashable, Sendable {
  /// Bytes of the stream before the segment, and with it.
  package var start: Int64
  package var end: Int64
  /// The replication ID under which the server sent it.
  package var history: String
  /// Stored before it was full. It counts where no longer one begins at its start.
  package var isPartial = false
  /// On the tier's clock.
  package var modified: Date?

  package init(start: Int64, end: Int64, history: String) {
    self.start = start
    self.end = end
    self.history = history
  }

  /// Nil for what this library did not name.
  package init?(_ info: SegmentInfo) {
    let parts = info.name.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 3, parts[0].utf8.count == 20, parts[1].utf8.count == 20, let start = Int64(parts[0]),
      let end = Int64(parts[1]), 0 <= start, start < end, ReplicationPosition.isHistory(parts[2])
    else { return nil }
    self.init(start: start, end: end, history: parts[2])
    isPartial = info.isPartial
    modified = info.modified
  }

  package var name: String { "\(ChangeSegment.digits(start))-\(ChangeSegment.digits(end))-\(history)" }

  static func digits(_ offset: Int64) -> String {
    let text = String(offset)
    return String(repeating: "0", count: max(0, 20 - text.utf8.count)) + text
  }
}

/// The segments of one line of the log: what was received without a new full synchronisation.
package struct ChangeLine: Hashable, Sendable {
  /// The replication ID with which the line began. It names the line's folder.
  package var id: String
  /// Sorted by their start; of those with one start, the longest first.
  package var segments: [ChangeSegment]
  /// Through where everything was durable, as far as that was noted (``LogHead``).
  package var head: ReplicationPosition?

  package init(id: String, _ segments: [ChangeSegment]) {
    self.id = id
    self.segments = segments.sorted {
      ($0.start, -$0.end, $0.isPartial ? 1 : 0) < ($1.start, -$1.end, $1.isPartial ? 1 : 0)
    }
  }

  /// What follows a position without a gap: the first may begin before it. Nil if the position is not in this line.
  ///
  /// A segment of another history goes on only where the one before ends: a server that began another history earlier than
  /// there went its own way.
  package func chain(from position: ReplicationPosition) -> [ChangeSegment]? {
    let isHere = segments.contains {
      $0.history == position.history && $0.start <= position.offset && position.offset <= $0.end
    }
    guard isHere || goesOnElsewhere(from: position) else { return nil }
    var chain: [ChangeSegment] = []
    var (end, history) = (position.offset, position.history)
    // The longest that begins in what is covered goes on; if none does, here is the gap.
    var own: ChangeSegment?
    var index = 0
    while true {
      var other: ChangeSegment?
      while index < segments.count, segments[index].start <= end {
        let segment = segments[index]
        index += 1
        if segment.history == history {
          if segment.end > own?.end ?? end { own = segment }
        } else if segment.start == end, segment.end > other?.end ?? end {
          other = segment
        }
      }
      guard let next = own ?? other else { break }
      chain.append(next)
      (end, history, own) = (next.end, next.history, nil)
    }
    return chain
  }

  /// Whether the line was begun at a position and got its first bytes under another history: the server failed over before it
  /// had sent any.
  private func goesOnElsewhere(from position: ReplicationPosition) -> Bool {
    id == position.history && segments.contains { $0.start == position.offset }
      && segments.allSatisfy { position.offset <= $0.start || $0.history == id }
  }

  /// Where its newest stretch ends.
  package var end: ReplicationPosition? {
    guard let last = segments.max(by: { $0.end < $1.end }) else { return nil }
    return ReplicationPosition(history: last.history, offset: last.end)
  }

  package var modified: Date? { segments.compactMap(\.modified).max() }

  /// The stretches without a gap in them, in order.
  package var stretches: [Range<Int64>] {
    var stretches: [Range<Int64>] = []
    for segment in segments {
      if let last = stretches.last, segment.start <= last.upperBound {
        stretches[stretches.count - 1] = last.lowerBound..<max(last.upperBound, segment.end)
      } else {
        stretches.append(segment.start..<segment.end)
      }
    }
    return stretches
  }
}
