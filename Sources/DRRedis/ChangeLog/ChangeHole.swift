import DRCore

/// A stretch of a line of the change log of which nothing is stored, with more of that line behind it.
package struct ChangeHole: Hashable, Sendable {
  /// The line's ID.
  package var line: String
  /// The offset through which the log goes, and the one at which it goes on.
  package var start: Int64
  package var end: Int64
  /// The first segment behind it.
  package var behind: ChangeSegment

  /// For people: `offset 5 to 9 of history …`.
  package var description: String { "offset \(start) to \(end) of history \(behind.history)" }
}

extension ChangeLine {
  /// What is missing behind an offset, through which the line is whole; nil if it has nothing behind it.
  package func hole(after offset: Int64) -> ChangeHole? {
    guard let behind = segments.first(where: { $0.start > offset }) else { return nil }
    return ChangeHole(line: id, start: offset, end: behind.start, behind: behind)
  }

  /// What is missing between a snapshot that the line does not hold and the line's next segment; nil if the snapshot is of
  /// another history, or if the line has nothing behind it.
  package func hole(behind snapshot: ReplicationPosition) -> ChangeHole? {
    let isOfThisLine = id == snapshot.history || segments.contains { $0.history == snapshot.history }
    // What is covered under another history only is of a server that went its own way.
    guard isOfThisLine, !segments.contains(where: { $0.start <= snapshot.offset && snapshot.offset <= $0.end }) else {
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
}
