package import DRCore
import NIOCore

/// The bytes of one line of the change log from a position on, in their order, each once, from whatever segments hold them.
///
/// Segments may overlap: a receiver that was killed leaves a part of what its successor has whole, and two receivers that
/// followed one server each have all of it. Where a segment cannot be read, another that holds the same bytes takes its place.
/// Where two segments hold different bytes at one offset of one history, the walk ends there.
///
/// A restore reads the log in this way before it touches anything and again when it sends it, and so does the check: what one
/// of them finds, the others find.
package struct ChangeWalk: Sendable {
  /// What follows the piece before it, of one batch.
  package struct Piece: Hashable, Sendable {
    package var history: String
    /// From the walk's position on. Its arrival is not before that of the piece before it, whose receiver may have had
    /// another clock.
    package var batch: ChangeBatch
  }

  private let archive: RedisLogArchive
  private let line: ChangeLine
  private let overlaps: [ChangeSegment: [ChangeSegment]]
  /// Behind which nothing was given yet.
  package private(set) var position: ReplicationPosition
  /// Segments that were read, or tried.
  package private(set) var visited: Set<ChangeSegment> = []
  /// What could not be read, and why.
  package private(set) var unreadable: [ChangeSegment: DRError] = [:]
  private var chain: ArraySlice<ChangeSegment>?
  private var current: ChangeSegment?
  private var batches: ArraySlice<ChangeBatch> = []
  private var arrival: Int64 = 0
  /// Of segments that overlap others, as long as those may come.
  private var contents: [ChangeSegment: [ChangeBatch]] = [:]
  private var compared: Set<Set<ChangeSegment>> = []
  private var opensOthers = false
  private var conflict: (offset: Int64, error: DRError)?

  /// - Parameter start: A position in the line (``ChangeLine/chain(from:)``).
  package init(_ archive: RedisLogArchive, _ line: ChangeLine, from start: ReplicationPosition) {
    self.archive = archive
    self.line = line
    position = start
    overlaps = line.overlaps
  }

  /// What follows; nil at the end of what is there.
  ///
  /// - Throws: ``DRError``: the reason why what follows cannot be read, where no other segment has it; `segmentConflict` where
  ///   two segments differ; `tierUnavailable`. ``position`` is then where the log is whole to.
  package mutating func next() async throws -> Piece? {
    while true {
      if let conflict, position.offset >= conflict.offset { throw conflict.error }
      if let piece = take() { return piece }
      guard let segment = nextSegment() else {
        let wanted = line.chain(from: position)?.first { $0.end > position.offset }
        if let error = wanted.flatMap({ unreadable[$0] }) { throw error }
        return nil
      }
      do {
        let batches = try await content(of: segment)
        try await compare(segment, batches)
        self.batches = batches[...]
        current = segment
      } catch let error as DRError where error.isUnreadable {
        unreadable[segment] = await explained(error)
        chain = nil
      }
    }
  }

  /// Where others of the line open with the identities that are given, a segment that does not is damaged.
  private mutating func explained(_ error: DRError) async -> DRError {
    guard error.code == .noMatchingIdentity, !archive.decoding.identities.isEmpty else { return error }
    for other in line.segments where !opensOthers && unreadable[other] == nil && !visited.contains(other) {
      opensOthers = (try? await archive.read(other, line: line.id)) != nil
      if !opensOthers { break }
    }
    guard opensOthers else { return error }
    return DRError(
      .corruptData, "its age header is damaged: the identity that opens other segments of this log does not open it",
      advice: "take it from another tier", component: error.component, object: error.object, cause: error)
  }

  private mutating func take() -> Piece? {
    guard let current else { return nil }
    while var batch = batches.popFirst() {
      let end = min(batch.end, conflict?.offset ?? .max)
      guard end > position.offset else { continue }
      guard
        let bytes = batch.bytes.getSlice(
          at: batch.bytes.readerIndex + Int(position.offset - batch.start), length: Int(end - position.offset))
      else { continue }
      arrival = max(arrival, batch.arrival)
      (batch.start, batch.bytes, batch.arrival) = (position.offset, bytes, arrival)
      position = ReplicationPosition(history: current.history, offset: end)
      return Piece(history: current.history, batch: batch)
    }
    return nil
  }

  private mutating func nextSegment() -> ChangeSegment? {
    if chain == nil {
      let usable = line.segments.filter { unreadable[$0] == nil }
      chain = (ChangeLine(id: line.id, usable).chain(from: position) ?? [])[...]
    }
    while let segment = chain?.popFirst() {
      if segment.end > position.offset { return segment }
    }
    return nil
  }

  private mutating func content(of segment: ChangeSegment) async throws -> [ChangeBatch] {
    if let content = contents[segment] { return content }
    visited.insert(segment)
    let content = try await archive.read(segment, line: line.id)
    opensOthers = true
    let offset = position.offset
    contents = contents.filter { $0.key.end > offset }
    if overlaps[segment] != nil { contents[segment] = content }
    return content
  }

  /// Looks whether the segments that hold some of the same bytes hold the same.
  private mutating func compare(_ segment: ChangeSegment, _ batches: [ChangeBatch]) async throws {
    for other in overlaps[segment] ?? [] where unreadable[other] == nil && !compared.contains([segment, other]) {
      let otherBatches: [ChangeBatch]
      do {
        otherBatches = try await content(of: other)
      } catch let error as DRError where error.isUnreadable {
        // A partial segment that was replaced by what was read already.
        if error.code != .objectNotFound || !other.isPartial { unreadable[other] = await explained(error) }
        continue
      }
      compared.insert([segment, other])
      let shared = max(segment.start, other.start)..<min(segment.end, other.end)
      guard let offset = Self.difference(batches, otherBatches, in: shared), offset < conflict?.offset ?? .max else {
        continue
      }
      conflict = (
        offset,
        DRError(
          .segmentConflict,
          "the segments \(segment.name) and \(other.name) hold different bytes from offset \(offset) on",
          advice: "find out which server each is of before anything is removed", component: archive.component,
          object: other.name)
      )
    }
  }

  /// The first offset at which two segments differ; nil if they are the same.
  private static func difference(_ one: [ChangeBatch], _ other: [ChangeBatch], in range: Range<Int64>) -> Int64? {
    let (one, other) = (bytes(of: one, in: range), bytes(of: other, in: range))
    guard one != other else { return nil }
    let equal = zip(one.readableBytesView, other.readableBytesView).prefix { $0 == $1 }.count
    return range.lowerBound + Int64(equal)
  }

  private static func bytes(of batches: [ChangeBatch], in range: Range<Int64>) -> ByteBuffer {
    var bytes = ByteBuffer()
    for batch in batches where batch.start < range.upperBound && range.lowerBound < batch.end {
      let shared = max(batch.start, range.lowerBound)..<min(batch.end, range.upperBound)
      let start = batch.bytes.readerIndex + Int(shared.lowerBound - batch.start)
      if let slice = batch.bytes.getSlice(at: start, length: shared.count) { bytes.writeImmutableBuffer(slice) }
    }
    return bytes
  }
}

extension ChangeLine {
  /// By segment, the others that hold some of the same bytes, of the same history.
  fileprivate var overlaps: [ChangeSegment: [ChangeSegment]] {
    var overlaps: [ChangeSegment: [ChangeSegment]] = [:]
    var open: [ChangeSegment] = []
    for segment in segments {
      open.removeAll { $0.end <= segment.start }
      for other in open where other.history == segment.history {
        overlaps[other, default: []].append(segment)
        overlaps[segment, default: []].append(other)
      }
      open.append(segment)
    }
    return overlaps
  }
}

extension DRError {
  /// What was stored is not what can be read now.
  var isDamage: Bool {
    [.corruptData, .malformedData, .truncatedData, .objectNotFound, .segmentConflict].contains(code)
  }

  /// It cannot be read here, and another segment that holds the same will do.
  fileprivate var isUnreadable: Bool { isDamage || code == .noMatchingIdentity || code == .unsupportedVersion }
}
