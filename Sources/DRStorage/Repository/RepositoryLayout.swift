package import DRCore

/// Where the backups of a component lie in a tier.
///
///     postgres/daily/backup_20261123_020000/base.tar.zst     artifacts, by cadence
///     postgres/metadata/backup_20261123_020000.json          the manifest
///     postgres/metadata/backup_20261123_020000.inprogress    while the backup runs
///     postgres/wal/…                                         the change log (``ChangeLogStore``)
///     audit/…                                                the audit trail (``AuditTrail``)
///     reports/…                                              the reports of runs
public enum RepositoryLayout: String, Hashable, Sendable, CaseIterable {
  /// The plan's tree: one folder for a kind, which is one component's alone.
  case byKind
  /// A folder for each component below its kind: `postgres/app/daily/…`.
  case byKindAndName

  /// Where the reports of runs lie, by their numbers.
  package static let reports = "reports/"

  /// The folder of a component, without a slash at its end.
  package func folder(of component: Component) -> String {
    switch self {
    case .byKind: component.kind.rawValue
    case .byKindAndName: "\(component.kind)/\(component.name)"
    }
  }
}
