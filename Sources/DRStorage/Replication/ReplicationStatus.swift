public import DRCore

public import struct Foundation.Date

/// Which backup is where, and when it was seen to be whole there.
public struct ReplicationStatus: Sendable {
  public enum Place: Hashable, Sendable, CustomStringConvertible {
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
    public var recoveryPoint: Date
    /// In the order of the tiers.
    public var places: [Place]
  }

  public var tiers: [String]
  public var rows: [Row]
  /// Manifests that cannot be read, by tier: whether those backups are there is not known.
  public var unreadable: [String: [Catalog.Unreadable]] = [:]
  /// Tiers that could not be read, and why: nothing is known of them.
  public var unreachable: [String: DRError]

  /// Looks at each tier. One that cannot be reached hides no other.
  public static func of(_ repositories: [Repository], component: Component? = nil) async -> ReplicationStatus {
    var status = ReplicationStatus(tiers: repositories.map(\.tier.name), rows: [], unreachable: [:])
    var views: [View?] = []
    for repository in repositories {
      do {
        let view = try await View(repository, component)
        views.append(view)
        if !view.unreadable.isEmpty { status.unreadable[repository.tier.name] = view.unreadable }
      } catch {
        views.append(nil)
        status.unreachable[repository.tier.name] =
          error as? DRError ?? DRError(.tierUnavailable, "the tier could not be read", cause: error)
      }
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
          component: backup.component, backup: backup.id, recoveryPoint: backup.recoveryPoint.time,
          places: views.map { $0?.places[name] ?? ($0?.removed.contains(name) ?? false ? .removed : .absent) }))
    }
    return status
  }

  /// One tier.
  private struct View {
    var backups: [BackupManifest] = []
    var places: [String: Place] = [:]
    var removed: Set<String> = []
    var unreadable: [Catalog.Unreadable] = []

    init(_ repository: Repository, _ component: Component?) async throws {
      let catalog = try await repository.catalog(of: component)
      (backups, unreadable) = (catalog.backups, catalog.unreadable)
      for component in Set(backups.map(\.component)) {
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
  }
}
