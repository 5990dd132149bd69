import DRCore

/// Reads the change log as a restore of each backup to the latest would, each segment once.
struct LogReading {
  /// How far a restore can go.
  struct Way {
    var line: String
    var start: ReplicationPosition
    /// Behind a whole command, outside of transactions.
    var end: ReplicationPosition
    /// Why not further; nil: there is no more.
    var obstacle: DRError?
    fileprivate var chain: Set<ChangeSegment>
    fileprivate var places: Set<Int64>
  }

  private let archive: RedisLogArchive
  private let lines: [ChangeLine]
  /// Where backups are: from the first on a way the others are passed.
  private let starts: [Int64]
  private(set) var ways: [Way] = []
  private var visited: [String: Set<ChangeSegment>] = [:]
  /// By line.
  private(set) var unreadable: [String: [ChangeSegment: DRError]] = [:]

  init(_ archive: RedisLogArchive, _ lines: [ChangeLine], _ backups: [BackupManifest]) {
    (self.archive, self.lines) = (archive, lines)
    starts = backups.compactMap { ReplicationPosition($0.recoveryPoint)?.offset }
  }

  /// The way from a position; nil if it is in no line. The furthest back come first, so that the others lie on their way.
  ///
  /// - Throws: ``DRError`` with `tierUnavailable`.
  mutating func way(from start: ReplicationPosition) async throws -> Way? {
    guard let (line, names) = RedisLogArchive.furthest(from: start, in: lines) else { return nil }
    let chain = Set(names)
    let known = ways.first { way in
      way.line == line.id && (way.start == start || way.places.contains(start.offset)) && chain.isSubset(of: way.chain)
    }
    if let known { return known }
    var walk = ChangeWalk(archive, line, from: start)
    var cut = ChangeCut(at: start.offset, asked: starts.filter { $0 > start.offset })
    var way = Way(line: line.id, start: start, end: start, obstacle: nil, chain: chain, places: [])
    do {
      while let piece = try await walk.next() {
        try cut.take(piece.batch.bytes)
        if cut.offset > way.end.offset { way.end = ReplicationPosition(history: piece.history, offset: cut.offset) }
      }
    } catch let error as DRError where error.code != .tierUnavailable {
      way.obstacle = error
    }
    way.places = cut.found
    visited[line.id, default: []].formUnion(walk.visited)
    unreadable[line.id, default: [:]].merge(walk.unreadable) { first, _ in first }
    ways.append(way)
    return way
  }

  /// Reads what lies on no way.
  ///
  /// - Throws: ``DRError`` with `tierUnavailable`.
  mutating func readRest() async throws {
    for line in lines {
      for segment in line.segments where visited[line.id]?.contains(segment) != true {
        do {
          _ = try await archive.read(segment, line: line.id)
        } catch let error as DRError where error.code != .tierUnavailable {
          unreadable[line.id, default: [:]][segment] = error
        }
      }
    }
  }
}
