public import DRCore

public import struct Foundation.Date

/// What a pruning would do, and why: to be looked at before it is done.
public struct PrunePlan: Sendable {
  public enum Action: String, Hashable, Sendable, Codable {
    /// It stays.
    case keep
    /// It was marked, and is wanted again.
    case rescue
    /// It is marked: it goes once the grace period is over, unless it is wanted again.
    case mark
    /// It is marked, and its grace period is not over.
    case wait
    /// It goes now.
    case remove
    /// It would go now, and is locked: it goes when the lock has ended.
    case locked
    /// An interrupted removal is carried on.
    case finish
  }

  /// About one backup.
  public struct Decision: Hashable, Sendable, CustomStringConvertible {
    public var component: Component
    public var systemIdentifier: String?
    public var backup: String
    public var cadence: Cadence?
    public var recoveryPoint: Date?
    public var action: Action
    /// Each reason, in the words of the rule.
    public var reasons: [String]
    /// Artifacts of it are missing, have another size, or were read and are damaged: it cannot be restored from this tier, and stands for no other.
    public var isTorn = false

    public var description: String {
      "\(action.rawValue) \(component) \(backup): \(reasons.joined(separator: "; "))"
        + (isTorn
          ? "; TORN: artifacts are missing here, have another size or are damaged, so that it never counts as the last restorable backup"
          : "")
    }
  }

  /// Segments of one change log that no backup needs.
  public struct LogDecision: Hashable, Sendable, CustomStringConvertible {
    public var component: Component
    public var log: String
    public var systemIdentifier: String
    public var keep: Int
    public var remove: [ObjectKey]
    public var removedBytes: Int64
    public var reason: String

    public var description: String {
      "\(remove.isEmpty ? "keep" : "remove") \(component) \(log) \(systemIdentifier): "
        + "\(remove.count) segments go, \(keep) stay; \(reason)"
    }
  }

  public var tier: String
  public var decisions: [Decision]
  public var logs: [LogDecision]
  /// Objects whose lock is extended: everything that kept backups need.
  public var extensions: [ObjectKey]
  public var lock: RetentionLock?
  /// Manifests that cannot be read: they and their artifacts are kept.
  public var unreadable: [ObjectKey]

  /// One line for each decision, for people.
  public var text: String {
    var lines = decisions.map(\.description) + logs.map(\.description)
    if let lock, !extensions.isEmpty {
      lines.append("lock \(extensions.count) objects until \(Timestamp.format(lock.until))")
    }
    lines += unreadable.map { "keep \($0): it cannot be read" }
    return lines.joined(separator: "\n")
  }
}

/// What is known of a repository when a plan is made. Pure: the same facts give the same plan.
struct PruneFacts {
  var backups: [BackupManifest]
  /// Identities whose artifacts are all there, with their sizes; without those that were read and found to be damaged.
  var whole: Set<String>
  var standings: [String: PruneLedger.Standing]
  /// What cannot be removed now, and until when (nil: until somebody lets go).
  var locked: [String: Date?]
  var now: Date
  /// How long a mark stands before a backup goes.
  var grace: Duration

  /// Decides about the backups of one component.
  func decisions(by policy: RetentionPolicy, for component: Component) -> [PrunePlan.Decision] {
    // Those that go for good are no backups any more.
    let systems = systems(of: component)
    let newestSystem = systems.max { newest($0.value) < newest($1.value) }?.key
    let newestIsSafe = newestSystem.flatMap { systems[$0] }.map { lastRestorable($0) != nil } ?? false
    var decisions: [PrunePlan.Decision] = []
    for (system, members) in systems.sorted(by: { $0.key < $1.key }) {
      let isForgotten =
        system != newestSystem && newestIsSafe
        && (policy.forgetOldSystemsAfterDays.map { now.timeIntervalSince(newest(members)) > $0 * 86_400 } ?? false)
      var reasons = RetentionPolicy.kept(members, by: policy.rules(for: component), at: now, counting: !isForgotten)
      if !isForgotten, let last = lastRestorable(members) {
        reasons[last.id, default: []].append("the last restorable backup" + (system.isEmpty ? "" : " of \(system)"))
      }
      keepChains(members, &reasons)
      for backup in members {
        decisions.append(decide(backup, reasons[backup.id] ?? []))
      }
    }
    // What was condemned and is not gone yet.
    for backup in backups where backup.component == component && standings[backup.id]?.isCondemned ?? false {
      decisions.append(decision(backup, .finish, ["its removal was begun"]))
    }
    return decisions.sorted {
      ($0.recoveryPoint ?? .distantPast, $0.backup) < ($1.recoveryPoint ?? .distantPast, $1.backup)
    }
  }

  private func newest(_ members: [BackupManifest]) -> Date { members.map(\.recoveryPoint.time).max() ?? .distantPast }

  func systems(of component: Component) -> [String: [BackupManifest]] {
    let living = backups.filter { $0.component == component && !(standings[$0.id]?.isCondemned ?? false) }
    return Dictionary(grouping: living) { $0.systemIdentifier ?? "" }
  }

  private func lastRestorable(_ members: [BackupManifest]) -> BackupManifest? { lastChain(members).first }

  /// The newest that is whole, and whose parents are: itself, then those.
  func lastChain(_ members: [BackupManifest]) -> [BackupManifest] {
    let byID = Dictionary(members.map { ($0.id, $0) }) { first, _ in first }
    let newestFirst = members.sorted { ($0.recoveryPoint.time, $0.id) > ($1.recoveryPoint.time, $1.id) }
    return newestFirst.lazy.compactMap { backup -> [BackupManifest]? in
      var chain: [BackupManifest] = []
      var current = Optional(backup)
      while let link = current {
        guard whole.contains(link.id), chain.count < members.count else { return nil }
        chain.append(link)
        guard let parent = link.parent else { return chain }
        current = byID[parent]
      }
      return nil
    }.first ?? []
  }

  /// What a kept backup needs is kept too.
  private func keepChains(_ members: [BackupManifest], _ reasons: inout [String: [String]]) {
    let byID = Dictionary(members.map { ($0.id, $0) }) { first, _ in first }
    for backup in members where reasons[backup.id] != nil {
      var (child, steps) = (backup, 0)
      while let parent = child.parent.flatMap({ byID[$0] }), steps < members.count {
        let reason = "\(child.id) needs it"
        if !(reasons[parent.id]?.contains(reason) ?? false) { reasons[parent.id, default: []].append(reason) }
        child = parent
        steps += 1
      }
    }
  }

  private func decide(_ backup: BackupManifest, _ reasons: [String]) -> PrunePlan.Decision {
    let standing = standings[backup.id]
    let isMarked = standing?.isMarked ?? false
    guard reasons.isEmpty else { return decision(backup, isMarked ? .rescue : .keep, reasons) }
    guard isMarked, let marked = standing?.marked else { return decision(backup, .mark, ["no rule keeps it"]) }
    let due = marked.addingTimeInterval(grace / .seconds(1))
    guard due <= now else {
      return decision(backup, .wait, ["no rule keeps it; its grace ends \(Timestamp.format(due))"])
    }
    if let until = locked[backup.id] {
      return decision(
        backup, .locked,
        ["no rule keeps it; it is locked " + (until.map { "until \(Timestamp.format($0))" } ?? "until it is let go")])
    }
    return decision(backup, .remove, ["no rule keeps it; marked \(Timestamp.format(marked))"])
  }

  private func decision(_ backup: BackupManifest, _ action: PrunePlan.Action, _ reasons: [String])
    -> PrunePlan.Decision
  {
    PrunePlan.Decision(
      component: backup.component, systemIdentifier: backup.systemIdentifier, backup: backup.id,
      cadence: backup.cadence, recoveryPoint: backup.recoveryPoint.time, action: action, reasons: reasons,
      isTorn: action != .finish && !whole.contains(backup.id))
  }
}
