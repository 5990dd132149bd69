public import DRCore
public import DRStorage

public import struct Foundation.Date

extension RedisLogArchive {
  /// How far the change log goes on from a backup without a gap.
  public struct Reach: Sendable, Hashable {
    /// The last offset, and its history.
    public var offset: Int64
    public var history: String
    /// When the change at that offset arrived; nil if its segment cannot be read.
    public var moment: Date?
  }

  /// The line that goes furthest from a position, and what of it does; nil if the position is in none.
  package static func furthest(
    from start: ReplicationPosition, in lines: [ChangeLine]
  ) -> (line: ChangeLine, chain: [ChangeSegment])? {
    lines.compactMap { line in line.chain(from: start).map { (line, $0) } }
      .max { $0.chain.last?.end ?? start.offset < $1.chain.last?.end ?? start.offset }
  }

  /// How far each of these backups can be brought, by its identity; nothing for one from which no change log goes on.
  ///
  /// - Throws: As the tier's `list`; ``DRError`` with `tierUnavailable`.
  public func reaches(of backups: [BackupManifest]) async throws -> [String: Reach] {
    let lines = try await lines()
    var moments: [ChangeSegment: Date] = [:]
    var reaches: [String: Reach] = [:]
    for backup in backups {
      guard let start = ReplicationPosition(backup.recoveryPoint) else { continue }
      let found = lines.compactMap { line in line.chain(from: start).map { (line: line.id, last: $0.last) } }
        .max { $0.last?.end ?? 0 < $1.last?.end ?? 0 }
      guard let found else { continue }
      guard let last = found.last else {
        reaches[backup.id] = Reach(offset: start.offset, history: start.history, moment: backup.recoveryPoint.time)
        continue
      }
      if moments[last] == nil {
        do {
          moments[last] = try await read(last, line: found.line).last.map { Date(milliseconds: $0.arrival) }
        } catch let error as DRError where error.code != .tierUnavailable {
          // Damaged, or this host can only encrypt: `check` says which.
        }
      }
      reaches[backup.id] = Reach(offset: last.end, history: last.history, moment: moments[last])
    }
    return reaches
  }

  /// The newest backup from which a position is reached.
  ///
  /// - Parameter position: `<replication ID>:<offset>`; or an offset alone, if only one history is known that has it.
  /// - Throws: ``DRError``: `targetAmbiguous` naming the histories that have the offset; as ``Catalog``; as the tier's `list`.
  public func backup(at position: String, in catalog: Catalog) async throws -> BackupManifest {
    let wanted = ReplicationPosition(parsing: position)
    var found: [String: BackupManifest] = [:]
    if let offset = wanted?.offset ?? Int64(position), offset >= 0 {
      let lines = try await lines()
      // The oldest first: the newest stays.
      let own = catalog.backups.filter { $0.component == component }
        .sorted { ($0.recoveryPoint.time, $0.id) < ($1.recoveryPoint.time, $1.id) }
      for backup in own {
        for history in Self.histories(at: offset, from: backup, lines)
        where wanted == nil || history == wanted?.history {
          found[history] = backup
        }
      }
      let ids = Set(found.values.map(\.id))
      if ids.count == 1, let backup = found.values.first { return backup }
      if ids.count > 1 {
        let named = found.sorted { ($0.value.recoveryPoint.time, $0.key) < ($1.value.recoveryPoint.time, $1.key) }
          .map { "\($0.key) (from backup \($0.value.id))" }
        throw DRError(
          .targetAmbiguous, "\(found.count) histories have an offset \(offset): \(named.joined(separator: ", "))",
          advice: "say which one is meant, as <history>:\(offset)", component: component)
      }
    }
    return try catalog.backup(of: component, for: .position(position)) { Self.reaches($0, $1) }
  }

  /// The histories that an offset is of, where it is reached from a backup: two, if one ends there and another goes on.
  private static func histories(at offset: Int64, from backup: BackupManifest, _ lines: [ChangeLine]) -> Set<String> {
    guard let start = ReplicationPosition(backup.recoveryPoint), start.offset <= offset else { return [] }
    var histories: Set<String> = start.offset == offset ? [start.history] : []
    let chains = lines.compactMap { $0.chain(from: start) }
    let chain = chains.max { $0.last?.end ?? 0 < $1.last?.end ?? 0 } ?? []
    guard start.offset == offset || chain.last?.end ?? 0 >= offset else { return [] }
    for segment in chain where segment.start <= offset && offset <= segment.end {
      histories.insert(segment.history)
    }
    return histories
  }
}
