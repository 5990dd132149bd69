public import DRCore
public import DRStorage
import Foundation
import NIOCore

/// Where the change log of one component lies: one folder for each line, which is named for the replication ID it began
/// with.
///
///     redis/aof/<replication ID>/<start>-<end>-<replication ID>-<SHA-256>.zst[.age]
///
/// and beside them a note of how far it was durable.
public struct RedisLogArchive: Sendable {
  public let tier: any StorageTier
  public let component: Component
  public var layout: RepositoryLayout
  public var encoding: Encoding
  public var decoding: Decoding

  public init(
    tier: any StorageTier, component: Component, layout: RepositoryLayout = .byKind, encoding: Encoding = Encoding(),
    decoding: Decoding = Decoding()
  ) {
    self.tier = tier
    self.component = component
    self.layout = layout
    self.encoding = encoding
    self.decoding = decoding
  }

  static let folder = "aof"

  func store(_ line: String) throws -> ChangeLogStore {
    try ChangeLogStore(
      tier: tier, component: component, layout: layout, log: RedisLogArchive.folder, systemIdentifier: line)
  }

  /// Everything that is stored, by one listing for each line.
  ///
  /// - Throws: As the tier's `list`.
  package func lines() async throws -> [ChangeLine] {
    let prefix = "\(layout.folder(of: component))/\(RedisLogArchive.folder)/"
    var ids: [String] = []
    var after: ObjectKey?
    // Steps over the contents of each folder.
    while let key = try await tier.list(prefix: prefix, after: after, limit: 1).objects.first?.key {
      guard let id = key.rest(after: prefix)?.split(separator: "/").first.map(String.init) else { break }
      if ReplicationPosition.isHistory(id) { ids.append(id) }
      after = try ObjectKey("\(prefix)\(id)0")
    }
    var lines: [ChangeLine] = []
    for id in ids { lines.append(try await line(id)) }
    return lines
  }

  func line(_ id: String) async throws -> ChangeLine {
    let stored = try await store(id).segments()
    var line = ChangeLine(id: id, stored.compactMap { ChangeSegment($0) })
    line.head = stored.compactMap { LogHead.position($0.name) }.max { $0.offset < $1.offset }
    return line
  }

  /// Reads a segment's batches, checked against its name.
  ///
  /// A partial segment may have been superseded since it was listed, by a longer one or by the full one: then that one is
  /// read, up to where this one ends.
  ///
  /// - Throws: ``DRError``: `corruptData`, `malformedData`, `objectNotFound`, `noMatchingIdentity`, `tierUnavailable`.
  package func read(_ segment: ChangeSegment, line: String) async throws -> [ChangeBatch] {
    var current = segment
    var attempts = 20
    while true {
      do {
        let batches = try await readStored(current, line: line)
        return current == segment ? batches : Self.batches(batches, through: segment.end)
      } catch let error as DRError where error.code == .objectNotFound && current.isPartial && attempts > 0 {
        attempts -= 1
        let longer = try await self.line(line).segments.first {
          $0.start == segment.start && $0.end >= segment.end && $0 != current
        }
        guard let longer else { throw error }
        current = longer
      }
    }
  }

  /// The database that is chosen where the log ends; 0 if that cannot be read here.
  func database(at end: ReplicationPosition, line: String) async -> Int {
    guard let segment = try? await self.line(line).segments.first(where: { $0.end == end.offset }),
      let last = try? await read(segment, line: line).last
    else { return 0 }
    var database = last.database
    var scanner = ReplicationCommandScanner()
    try? last.bytes.withUnsafeReadableBytes { raw in
      try scanner.scan(raw) { command, _, _ in
        if case .select(let number) = command { database = number }
      }
    }
    return database
  }

  /// Another receiver may have put other batches together: the last one is cut.
  private static func batches(_ batches: [ChangeBatch], through end: Int64) -> [ChangeBatch] {
    batches.filter { $0.start < end }.map { batch in
      var batch = batch
      let size = min(batch.end, end) - batch.start
      if let bytes = batch.bytes.getSlice(at: batch.bytes.readerIndex, length: Int(size)) { batch.bytes = bytes }
      return batch
    }
  }

  /// Whether the log was begun anew with this segment, at a snapshot.
  ///
  /// - Throws: As ``read(_:line:)``.
  func beginsAnew(_ segment: ChangeSegment, line: String) async throws -> Bool {
    do {
      return ChangeSegmentFormat.beginsAnew(try await raw(segment, line: line))
    } catch let error as DRError where error.code == .objectNotFound && segment.isPartial {
      // Superseded since it was listed.
      guard let longer = try await self.line(line).segments.first(where: { $0.start == segment.start }) else {
        throw error
      }
      return ChangeSegmentFormat.beginsAnew(try await raw(longer, line: line))
    }
  }

  private func raw(_ segment: ChangeSegment, line: String) async throws -> ByteBuffer {
    let store = try store(line)
    return segment.isPartial
      ? try await store.getPartial(segment.name, decoding: decoding)
      : try await store.get(segment.name, decoding: decoding)
  }

  private func readStored(_ segment: ChangeSegment, line: String) async throws -> [ChangeBatch] {
    do {
      return try batches(in: try await raw(segment, line: line), of: segment)
    } catch let error as DRError where error.code == .segmentConflict {
      // Two receivers stored it at the same moment, each with its own times: it is one segment if the stream is the same.
      let all = try await store(line).contents(segment.name, decoding: decoding).map {
        try batches(in: $0, of: segment)
      }
      guard let first = all.first, all.allSatisfy({ Self.stream($0) == Self.stream(first) }) else { throw error }
      return first
    }
  }

  private func batches(in raw: ByteBuffer, of segment: ChangeSegment) throws -> [ChangeBatch] {
    let batches = try ChangeSegmentFormat.read(raw, object: segment.name)
    guard batches.first?.start == segment.start, batches.last?.end == segment.end else { throw wrong(segment.name) }
    return batches
  }

  private static func stream(_ batches: [ChangeBatch]) -> ByteBuffer {
    batches.reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1.bytes) }
  }

  private func wrong(_ name: String) -> DRError {
    DRError(
      .corruptData, "the segment does not hold what its name says",
      advice: "take it from another tier, or restore to before it", component: component, object: name)
  }
}
