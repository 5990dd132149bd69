public import DRCore

public import struct Foundation.Date

/// Which backup is where, when it was seen to be whole there, and how far the change logs go on each tier.
public struct ReplicationStatus: Sendable {
  public enum Place: Hashable, Sendable, CustomStringConvertible {
    /// The tier, or its marks of retention, could not be read.
    case unknown
    /// Nothing of it is committed there.
    case absent
    /// Its manifest is there, with every artifact in its size. Verified: when each byte was seen; nil: it was written
    /// there, and checked as it was.
    case whole(verified: Date?, archived: Bool)
    /// Its manifest is there, and artifacts are not, or not in their size.
    case torn(missing: Int)
    /// It was removed there by retention.
    case removed

    public var description: String {
      switch self {
      case .unknown: "not known"
      case .absent: "absent"
      case .whole(let verified, let archived):
        "whole" + (verified.map { ", verified \(Timestamp.format($0).prefix(16))Z" } ?? "")
          + (archived ? ", archived" : "")
      case .torn(let missing): "TORN, \(missing) artifacts missing"
      case .removed: "removed by retention"
      }
    }
  }

  public struct Row: Sendable {
    public var component: Component
    public var backup: String
    /// The backup from which it goes on.
    public var parent: String?
    public var recoveryPoint: Date
    /// When the backup was complete.
    public var ended: Date
    /// In the order of the tiers.
    public var places: [Place]
  }

  /// What the repository's log lacks of what one of its backups needs.
  struct LogGap: Sendable {
    var component: Component
    var backup: String
    var log: String
    var gap: ChangeLogGap
    /// The newest of its system: what others lack may have been lost before it was taken.
    var isNewest: Bool
  }

  /// The first one is the repository, the others are its copies.
  public var tiers: [String]
  public var rows: [Row]
  public var logs: [ChangeLogStatus] = []
  var logGaps: [LogGap] = []
  /// Manifests that cannot be read, by tier: whether those backups are there is not known.
  public var unreadable: [String: [Catalog.Unreadable]] = [:]
  /// Tiers that could not be read, and why: nothing is known of them.
  public var unreachable: [String: DRError]

  /// Looks at each tier, and writes nothing. One that cannot be reached hides no other.
  ///
  /// Every log is listed on every tier, as a replication does it; no segment is read.
  ///
  /// - Parameters:
  ///   - repositories: The first one is what the others are copies of.
  ///   - component: Only this one; nil: all.
  public static func of(
    _ repositories: [Repository], component: Component? = nil, changeLogs: [ChangeLogRule] = ChangeLogRule.all
  ) async -> ReplicationStatus {
    var status = ReplicationStatus(tiers: repositories.map(\.tier.name), rows: [], unreachable: [:])
    var views: [TierView?] = []
    for repository in repositories {
      views.append(await status.looking(at: repository) { try await TierView(repository, component) })
    }
    let components = Set(views.flatMap { $0?.backups.map(\.component) ?? [] })
      .sorted { $0.description < $1.description }
    for index in repositories.indices {
      guard var view = views[index] else { continue }
      views[index] = await status.looking(at: repositories[index]) {
        try await view.look(at: components)
        return view
      }
      if !view.unreadable.isEmpty { status.unreadable[repositories[index].tier.name] = view.unreadable }
    }
    var names: [String: BackupManifest] = [:]
    for view in views {
      for backup in view?.backups ?? [] { names["\(backup.component) \(backup.id)"] = backup }
    }
    for (name, backup) in names.sorted(by: {
      ($0.value.recoveryPoint.time, $0.key) < ($1.value.recoveryPoint.time, $1.key)
    }) {
      status.rows.append(
        Row(
          component: backup.component, backup: backup.id, parent: backup.parent,
          recoveryPoint: backup.recoveryPoint.time,
          ended: backup.ended, places: views.map { $0?.place(of: name) ?? .unknown }))
    }
    for component in components {
      for rule in changeLogs { await status.look(at: rule, of: component, repositories, views) }
    }
    return status
  }

  private func gaps(
    of rule: ChangeLogRule, _ component: Component, _ backups: [BackupManifest],
    _ folders: [String: ChangeLogStatus.Listing]
  ) -> [LogGap] {
    let names = folders.mapValues { objects in
      Set(objects.compactMap { SegmentFileName(parsing: $0.key.lastComponent)?.name })
    }
    let newest = Dictionary(grouping: backups) { $0.systemIdentifier ?? "" }.compactMap { _, members in
      members.max { ($0.recoveryPoint.time, $0.id) < ($1.recoveryPoint.time, $1.id) }?.id
    }
    return backups.flatMap { backup in
      let gaps: [ChangeLogGap]
      switch rule.scope {
      case .system:
        gaps = [rule.gap(names[backup.systemIdentifier ?? ""] ?? [], backup)].compactMap { $0 }
      case .component:
        let concerned = names.filter { rule.concerns($0.key, $0.value, backup) }.sorted { $0.key < $1.key }
        gaps =
          concerned.isEmpty
          ? [rule.gap([], backup)].compactMap { $0 } : concerned.compactMap { rule.gap($0.value, backup) }
      }
      return gaps.map {
        LogGap(
          component: component, backup: backup.id, log: rule.log, gap: $0, isNewest: newest.contains(backup.id))
      }
    }
  }

  /// Nil if it cannot be read, which is then said of it.
  private mutating func looking<Result>(
    at repository: Repository, _ look: () async throws -> Result
  ) async -> Result? {
    do {
      return try await look()
    } catch {
      unreachable[repository.tier.name] =
        error as? DRError ?? DRError(.tierUnavailable, "the tier could not be read", cause: error)
      return nil
    }
  }

  private mutating func look(
    at rule: ChangeLogRule, of component: Component, _ repositories: [Repository], _ views: [TierView?]
  ) async {
    var listings: [[String: ChangeLogStatus.Listing]?] = []
    for (repository, view) in zip(repositories, views) {
      guard view != nil else {
        listings.append(nil)
        continue
      }
      listings.append(
        await looking(at: repository) {
          let root = "\(repository.folder(of: component).path)/\(rule.log)/"
          var found: [String: ChangeLogStatus.Listing] = [:]
          for system in try await repository.tier.folders(below: root) {
            found[system] = try await repository.tier.listAll(prefix: "\(root)\(system)/")
          }
          return found
        })
    }
    let own = views.first?.map { $0.backups.filter { $0.component == component } } ?? []
    if let repository = listings.first ?? nil { logGaps += gaps(of: rule, component, own, repository) }
    for system in Set(listings.flatMap { $0.map { Array($0.keys) } ?? [] }).sorted() {
      let repository = listings.first?.map { $0[system] ?? [] } ?? nil
      let places = listings.enumerated().map { index, listing -> ChangeLogStatus.Place? in
        guard let listing else { return nil }
        let objects = listing[system] ?? []
        guard index > 0, let repository, let view = views[index] else {
          return ChangeLogStatus.place(of: objects, by: rule)
        }
        // As a replication decides it: what backups here or there need, but not what went here by retention.
        let living = own.filter { !view.removed.contains("\(component) \($0.id)") }
        let needing = living + view.backups.filter { $0.component == component }
        return ChangeLogStatus.place(
          of: objects,
          neededBack: own.isEmpty
            ? [] : rule.needed(objects, of: system, by: own, after: rule.horizon(of: own, for: system)),
          comparedWith: repository,
          needed: rule.needed(repository, of: system, by: needing, after: rule.horizon(of: needing, for: system)),
          by: rule)
      }
      var log = ChangeLogStatus(component: component, log: rule.log, systemIdentifier: system, places: places)
      if let repository {
        let names = repository.compactMap { SegmentFileName(parsing: $0.key.lastComponent)?.name }
        log.findings = rule.findings(system, names, own)
      }
      logs.append(log)
    }
  }
}

/// What one tier holds.
private struct TierView {
  private let repository: Repository
  private(set) var backups: [BackupManifest] = []
  private(set) var removed: Set<String> = []
  private(set) var unreadable: [Catalog.Unreadable] = []
  private var places: [String: ReplicationStatus.Place] = [:]

  init(_ repository: Repository, _ component: Component?) async throws {
    self.repository = repository
    let catalog = try await repository.catalog(of: component)
    (backups, unreadable) = (catalog.backups, catalog.unreadable)
  }

  /// What retention has removed, and whether what is there is whole.
  mutating func look(at components: [Component]) async throws {
    for component in components {
      let folder = repository.folder(of: component)
      let standings = try await PruneLedger(tier: repository.tier, folder: folder).standings()
      for (id, standing) in standings where standing.isCondemned { removed.insert("\(component) \(id)") }
      for backup in backups where backup.component == component {
        var (missing, archived) = (0, false)
        for artifact in backup.artifacts {
          let info = try await repository.tier.head(artifact.key)
          if info?.size != artifact.storedSize { missing += 1 }
          if let archive = info?.archive, !archive.isReadable { archived = true }
        }
        let record = try await ReplicaRecord.read(folder.replica(backup.id), in: repository.tier)
        places["\(component) \(backup.id)"] =
          missing > 0 ? .torn(missing: missing) : .whole(verified: record?.verified, archived: archived)
      }
    }
  }

  func place(of name: String) -> ReplicationStatus.Place {
    places[name] ?? (removed.contains(name) ? .removed : .absent)
  }
}
