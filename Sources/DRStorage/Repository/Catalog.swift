public import DRCore

public import struct Foundation.Date

/// The backups of a repository at one moment.
///
/// Sorted by component, system identifier, time of the recovery point, and identity; never by name or timeline alone:
/// after an upgrade a new system starts its names and its positions anew.
public struct Catalog: Sendable {
  /// A manifest that is there and cannot be read: damaged, or of a later version. Its backup may be whole.
  public struct Unreadable: Sendable {
    /// The identity of the backup, from the manifest's name.
    public var id: String
    public var key: ObjectKey
    public var error: DRError
  }

  public let backups: [BackupManifest]
  public let unreadable: [Unreadable]

  package init(_ backups: [BackupManifest], unreadable: [Unreadable] = []) {
    self.backups = backups.sorted { left, right in
      let (first, second) = (Catalog.group(left), Catalog.group(right))
      return first != second ? first.lexicographicallyPrecedes(second) : Catalog.isOlder(left, right)
    }
    self.unreadable = unreadable.sorted { $0.key < $1.key }
  }

  /// The newest backup of a component, by its recovery point, or nil if there is none that can be read.
  ///
  /// - Parameter systemIdentifier: Only backups of this system; nil: of any that the component has been.
  public func latest(for component: Component, systemIdentifier: String? = nil) -> BackupManifest? {
    candidates(component, systemIdentifier).max(by: Catalog.isOlder)
  }

  /// Finds a backup by its identity.
  ///
  /// - Parameter component: Needed where two components have a backup of that identity.
  /// - Throws: ``DRCore/DRError``: `objectNotFound`, `invalidConfiguration` if the identity is not unique; why its
  ///   manifest cannot be read.
  public func backup(id: String, of component: Component? = nil) throws -> BackupManifest {
    let found = backups.filter { $0.id == id && (component == nil || $0.component == component) }
    guard let backup = found.first else {
      if let damaged = unreadable.first(where: { $0.id == id }) { throw damaged.error }
      throw DRError(.objectNotFound, "there is no backup \(id)", advice: "list the catalog", component: component)
    }
    guard found.count == 1 else {
      throw DRError(
        .invalidConfiguration, "backup \(id) exists for \(found.map(\.component.description).joined(separator: ", "))",
        advice: "say which component is meant")
    }
    return backup
  }

  /// The backup from which a target is reached with the least change log: the newest whose recovery point lies at or
  /// before it.
  ///
  /// `latest`, `immediate` and `name` take the newest backup. A named point that lies before it needs an older one: find
  /// that by ``backup(id:of:)``.
  ///
  /// - Parameters:
  ///   - systemIdentifier: Only backups of this system; nil: of any that the component has been.
  ///   - reaches: Whether a backup with this recovery point can go on to a position. Positions are the system's own, so a
  ///     target of that kind needs it.
  /// - Throws: ``DRCore/DRError``: `targetUnreachable`, saying how far back the backups reach; `invalidConfiguration` for
  ///   a position without `reaches`; what `reaches` throws.
  public func backup(
    of component: Component, for target: RecoveryTarget, systemIdentifier: String? = nil,
    reaches: ((RecoveryPoint, _ position: String) throws -> Bool)? = nil
  ) throws -> BackupManifest {
    let all = candidates(component, systemIdentifier)
    let reachable: [BackupManifest]
    switch target {
    case .latest, .immediate, .name: reachable = all
    case .time(let time): reachable = all.filter { $0.recoveryPoint.time <= time }
    case .position(let position):
      guard let reaches else {
        throw DRError(
          .invalidConfiguration, "positions of \(component.kind) cannot be compared here",
          advice: "choose the backup by its identity", component: component)
      }
      reachable = try all.filter { try reaches($0.recoveryPoint, position) }
    }
    if let backup = reachable.max(by: Catalog.isOlder) { return backup }
    guard let oldest = all.min(by: Catalog.isOlder) else {
      throw DRError(
        .targetUnreachable,
        "there is no backup of \(component)" + (systemIdentifier.map { " with system identifier \($0)" } ?? ""),
        advice: unreadable.isEmpty
          ? "see that the component and the repository are the right ones, or take a backup first"
          : "\(unreadable.count) manifests cannot be read: look at those",
        component: component)
    }
    let time = Timestamp.format(oldest.recoveryPoint.time)
    let back = if case .position = target { "\(oldest.recoveryPoint.position) (\(time))" } else { time }
    // Before an upgrade, or before it was set up anew, the component was another system.
    let former = backups.filter { backup in
      guard backup.component == component, let systemIdentifier, backup.systemIdentifier != systemIdentifier else {
        return false
      }
      if case .time(let time) = target { return backup.recoveryPoint.time <= time }
      return true
    }.max(by: Catalog.isOlder)
    let ofSystem = former == nil ? "" : " of system \(systemIdentifier ?? "")"
    throw DRError(
      .targetUnreachable, "the oldest backup\(ofSystem), \(oldest.id), reaches back to \(back)",
      advice: former.map {
        "there are older ones of another system, \($0.systemIdentifier ?? ""), which \(component) was before: to bring "
          + "that back, name its backup, such as \($0.id), and its timeline, \($0.recoveryPoint.history ?? "the one in its manifest")"
      } ?? "choose a later target, or look for an older backup on another tier", component: component)
  }

  /// As ``backup(of:for:systemIdentifier:reaches:)`` for a moment.
  ///
  /// - Throws: ``DRCore/DRError`` with `targetUnreachable`.
  public func backup(
    of component: Component, for time: Date, systemIdentifier: String? = nil
  ) throws -> BackupManifest {
    try backup(of: component, for: .time(time), systemIdentifier: systemIdentifier)
  }

  private func candidates(_ component: Component, _ systemIdentifier: String?) -> [BackupManifest] {
    backups.filter {
      $0.component == component && (systemIdentifier == nil || $0.systemIdentifier == systemIdentifier)
    }
  }

  private static func group(_ backup: BackupManifest) -> [String] {
    [backup.component.description, backup.systemIdentifier ?? ""]
  }

  private static func isOlder(_ left: BackupManifest, _ right: BackupManifest) -> Bool {
    (left.recoveryPoint.time, left.id) < (right.recoveryPoint.time, right.id)
  }
}
