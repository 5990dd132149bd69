import DRCore

/// A stretch of a line of the change log of which nothing is stored, with more of that line behind it, or a note that it was
/// durable.
package struct ChangeHole: Hashable, Sendable {
  /// The line's ID.
  package var line: String
  /// The offset through which the log goes, and the one at which it goes on.
  package var start: Int64
  package var end: Int64
  package var history: String
  /// The first segment behind it; nil: there is none, and what is missing is the log's end.
  package var behind: ChangeSegment?

  /// For people: `offset 5 to 9 of history …`.
  package var description: String { "offset \(start) to \(end) of history \(history)" }
}

extension ChangeLine {
  /// What is missing behind an offset, through which the line is whole; nil if it has nothing behind it, and never had as far
  /// as was noted.
  package func hole(after offset: Int64) -> ChangeHole? {
    if let behind = segments.first(where: { $0.start > offset }) {
      return ChangeHole(line: id, start: offset, end: behind.start, history: behind.history, behind: behind)
    }
    guard let head, head.offset > max(offset, end?.offset ?? 0) else { return nil }
    return ChangeHole(line: id, start: offset, end: head.offset, history: head.history, behind: nil)
  }

  /// Whether a history is, or was, the line's own.
  func knows(_ history: String) -> Bool {
    id == history || head?.history == history || segments.contains { $0.history == history }
  }

  /// Whether the line has, at a snapshot's offset, the changes of another history: that of a server which never was where the
  /// snapshot is, and went on from before it.
  package func wentAnotherWay(before snapshot: ReplicationPosition) -> Bool {
    guard knows(snapshot.history), chain(from: snapshot) == nil else { return false }
    return segments.contains { $0.start < snapshot.offset && snapshot.offset <= $0.end }
  }

  /// What is missing between a snapshot that the line does not hold and the line's next segment; nil if the snapshot is of
  /// another history, or if the line has nothing behind it.
  package func hole(behind snapshot: ReplicationPosition) -> ChangeHole? {
    // What is covered under another history only is of a server that went its own way.
    guard knows(snapshot.history),
      !segments.contains(where: { $0.start <= snapshot.offset && snapshot.offset <= $0.end })
    else {
      return nil
    }
    return hole(after: snapshot.offset)
  }
}

extension RedisLogArchive {
  /// Whether segments were lost there: the log says of itself where it was begun anew, behind a gap that was named and with a
  /// snapshot of its own.
  ///
  /// Asked of a second listing too: while the first one was made, a partial segment may have become a full one.
  ///
  /// - Throws: ``DRError`` with `tierUnavailable`.
  package func isLoss(_ hole: ChangeHole) async throws -> Bool {
    guard hole.behind != nil else { return try await isEndLost(hole) }
    let fresh = try await line(hole.line).segments
    guard !fresh.contains(where: { $0.start <= hole.start && hole.start < $0.end }) else { return false }
    guard let behind = fresh.first(where: { $0.start > hole.start }) else { return false }
    do {
      return try await !beginsAnew(behind, line: hole.line)
    } catch let error as DRError where error.code != .tierUnavailable {
      // What cannot be read says nothing.
      return true
    }
  }

  /// A partial segment takes the place of another, which a listing made meanwhile may miss both.
  private func isEndLost(_ hole: ChangeHole) async throws -> Bool {
    for attempt in 0..<5 {
      if attempt > 0 { try await Task.sleep(for: .milliseconds(200)) }
      if try await line(hole.line).end?.offset ?? 0 >= hole.end { return false }
    }
    return true
  }
}
