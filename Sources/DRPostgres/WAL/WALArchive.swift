public import DRCore
public import DRStorage
public import Logging
import NIOCore

/// The WAL of one PostgreSQL cluster in a tier: segments, timeline histories, backup labels.
///
///     postgres/wal/<system identifier>/<first 16 digits>/<segment>-<SHA-256>.zst[.age]
///     postgres/wal/<system identifier>/<first 16 digits>/<segment>.<reach>.partial.zst[.age]
///     postgres/wal/<system identifier>/<timeline>.history-<SHA-256>.zst[.age]
///
/// Whatever writes into it (``WALReceiver``, an `archive_command` by ``push(_:_:)``), the same name never gets other
/// content. A segment that is not full yet is stored under its reach, how many of its bytes there are, as eight
/// hexadecimal digits. So a longer one never replaces a shorter one in place, and a host that cannot decrypt still
/// knows how far the archive reaches. Shorter ones go once a longer one, or the full segment, is durable.
public struct WALArchive: Sendable {
  /// Of the cluster's segments. ``push(_:_:)`` and ``fetch(_:)`` go by what the segments say themselves.
  public var segmentSize: WALSegmentSize
  /// How what is stored is compressed and encrypted.
  public var encoding: Encoding
  /// What opens what is stored. Without an identity an encrypted archive can be written, not read.
  public var decoding: Decoding

  let store: ChangeLogStore

  public var component: Component { store.component }
  public var systemIdentifier: String { store.systemIdentifier }

  /// - Parameter systemIdentifier: The cluster's, as `pg_controldata` shows it: archives of clusters never mix.
  /// - Throws: ``DRError`` with `invalidConfiguration` for an identifier that is none.
  public init(
    tier: any StorageTier, component: Component, layout: RepositoryLayout = .byKind, systemIdentifier: String,
    segmentSize: WALSegmentSize = .standard, encoding: Encoding = Encoding(), decoding: Decoding = Decoding()
  ) throws {
    guard UInt64(systemIdentifier).map(String.init) == systemIdentifier else {
      throw DRError(
        .invalidConfiguration, "'\(systemIdentifier.prefix(40))' is no system identifier",
        advice: "pg_controldata shows it as 'Database system identifier'", component: component)
    }
    self.segmentSize = segmentSize
    self.encoding = encoding
    self.decoding = decoding
    // 256 segments of 16 MiB a folder. Histories, which are few, lie above.
    store = try ChangeLogStore(
      tier: tier, component: component, layout: layout, systemIdentifier: systemIdentifier,
      group: { $0.utf8.count >= 24 ? String($0.prefix(16)) : nil })
  }

  /// The archive of a running server, asked for its system identifier and the size of its segments.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`.
  public static func of(
    _ server: PostgresConnectionSettings, tier: any StorageTier, component: Component,
    layout: RepositoryLayout = .byKind, encoding: Encoding = Encoding(), decoding: Decoding = Decoding(),
    logger: Logger
  ) async throws -> WALArchive {
    let identity = try await PostgresConnection.withConnection(server, replication: true, logger: logger) {
      try await ServerIdentity($0)
    }
    return try WALArchive(
      tier: tier, component: component, layout: layout, systemIdentifier: identity.systemIdentifier,
      segmentSize: identity.segmentSize, encoding: encoding, decoding: decoding)
  }

  /// The names of the whole segments, histories and labels that are stored.
  ///
  /// - Throws: As the tier's `list`.
  package func names() async throws -> [String] { try await store.names() }

  /// What is there, by names alone.
  ///
  /// - Throws: As the tier's `list`.
  package func inventory() async throws -> WALInventory {
    WALInventory(try await store.segments(), segmentSize: segmentSize)
  }

  /// This archive with the size of segments that the newest sound one of them says; as it is, if there is none that can
  /// be opened.
  func withStoredSegmentSize() async throws -> WALArchive {
    var archive = self
    for name in try await segmentNames().suffix(8).reversed() {
      do {
        let content = try await fetch(name)
        archive.segmentSize = try content.withUnsafeReadableBytes { try WALSegmentHeader($0, object: name) }.segmentSize
        return archive
      } catch let error as DRError where WALArchive.unreadable.contains(error.code) {
        continue
      }
    }
    return archive
  }

  /// What says of one segment that it is of no use, and nothing of the others.
  static let unreadable: Set<DRError.Code> = [
    .corruptData, .malformedData, .truncatedData, .segmentConflict, .objectNotFound, .noMatchingIdentity,
  ]

  /// The names of the segments that are there, full or in part.
  private func segmentNames() async throws -> [String] {
    try await store.segments().compactMap { info in
      let name = info.isPartial ? WALPartialName(parsing: info.name)?.segment : info.name
      return name.flatMap { WALSegmentName.split($0) == nil ? nil : $0 }
    }
  }

  /// The histories of which there is one content.
  func histories(_ inventory: WALInventory) async throws -> [UInt32: TimelineHistory] {
    var histories: [UInt32: TimelineHistory] = [:]
    for (timeline, contents) in inventory.histories where contents == 1 {
      histories[timeline] = try await history(of: timeline)
    }
    return histories
  }

  /// The history of a timeline. Timeline 1 has an empty one.
  ///
  /// - Throws: ``DRError``: `objectNotFound`; `malformedData`; as ``fetch(_:)``.
  package func history(of timeline: UInt32) async throws -> TimelineHistory {
    guard timeline > 1 else { return TimelineHistory(root: timeline) }
    let content = try await store.get("\(WALFileName.history(timeline: timeline))", decoding: decoding)
    return try TimelineHistory(parsing: String(buffer: content), timeline: timeline)
  }
}

/// The name under which a segment that is not full is stored: the segment's, and its reach.
struct WALPartialName: Hashable, CustomStringConvertible {
  /// 24 hexadecimal digits.
  let segment: String
  /// Bytes from the segment's start.
  let reach: Int

  init(segment: String, reach: Int) {
    self.segment = segment
    self.reach = reach
  }

  init?(parsing text: String) {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, WALSegmentName.split(parts[0]) != nil, parts[1].utf8.count == 8,
      let reach = UInt32(parts[1], radix: 16), hex8(reach) == parts[1]
    else { return nil }
    segment = String(parts[0])
    self.reach = Int(reach)
  }

  var description: String { "\(segment).\(hex8(UInt32(clamping: reach)))" }
}
