public import DRCore
public import Logging

import struct Foundation.Date

/// What a pruning did.
public struct PruneOutcome: Sendable {
  /// The plan that was carried out, made anew under the lease.
  public var plan: PrunePlan
  public var marked: [String] = []
  public var rescued: [String] = []
  public var removed: [String] = []
  /// One whose removal was begun and is not known to be done: it is no backup any more, and the next pruning ends it.
  public var begun: String?
  /// Segments of change logs.
  public var segments = 0
  /// What could not be removed because it is locked: no error, it goes when the lock has ended.
  public var locked: [ObjectKey] = []
  /// Objects whose lock was extended.
  public var extended = 0

  /// One line for people.
  public var text: String {
    var text =
      "marked \(marked.count), took back \(rescued.count), removed \(removed.count) backups and \(segments) segments"
    if extended > 0 { text += ", extended \(extended) locks" }
    if !removed.isEmpty { text += "; removed: \(removed.joined(separator: ", "))" }
    if let begun { text += "; begun to remove: \(begun), which the next pruning ends" }
    return text
  }
}

extension Repository {
  /// Prunes: locks what is kept, takes back marks of what is wanted again, marks what is not wanted, and removes what was
  /// marked for longer than the grace period.
  ///
  /// It makes the plan anew, and does of it what `approved` agrees with. So what a person has seen is the most that is removed.
  ///
  /// | after | is left | what happens then |
  /// | --- | --- | --- |
  /// | some locks are extended | longer locks | the next pruning extends the others |
  /// | a verdict to stay is put | an unmarked backup | nothing |
  /// | a mark is put | a marked backup, whole and in the catalog | the next pruning goes on with it, or takes it back |
  /// | a verdict to go is put | a whole backup that will go | the next pruning removes it, whatever its plan |
  /// | the manifest is removed | artifacts without a manifest | the next pruning, or ``cleanInterrupted(olderThan:logger:)`` |
  /// | some artifacts are removed | the others | the same |
  /// | some segments are removed | a log that still reaches back to the oldest backup | the next pruning removes the others |
  /// | mark and verdict are forgotten, after a month | nothing | |
  ///
  /// Two prunings at the same time, or one that was stopped for a day and goes on, do no harm, even without a lease: a
  /// backup goes only after a verdict that is put if it is absent, those that are wanted again get theirs before any other
  /// goes, and once a backup's verdict is to go, nobody counts on it any more. A log goes only as far as backups have gone.
  ///
  /// - Parameters:
  ///   - approved: A plan that was looked at; nil: whatever the new plan says.
  ///   - lease: Its token is written into each mark and verdict; without one, prunings at the same time merely do the same
  ///     work twice.
  ///   - readsLast: As of ``prunePlan(_:changeLogs:of:grace:readsLast:)``.
  ///   - tombstones: How long it is remembered that a backup was removed, lest a replication brings it back.
  ///   - onChange: Told all that was done so far, each time that something was: when this throws, it is what was done by then.
  /// - Throws: ``DRCore/DRError``: `leaseLost`, `unsupported` for a tier without conditional put, `tierUnavailable`,
  ///   `notWritable`. What was removed stays removed; run it again.
  @discardableResult
  public func prune(
    _ policy: RetentionPolicy, changeLogs: [ChangeLogRule] = ChangeLogRule.all, of component: Component? = nil,
    grace: Duration = .seconds(86_400), approved: PrunePlan? = nil, lease: Lease? = nil,
    tombstones: Duration = .seconds(30 * 86_400), readsLast: Bool = false, logger: Logger,
    onChange: @escaping @Sendable (PruneOutcome) -> Void = { _ in }
  ) async throws -> PruneOutcome {
    let plan = try await prunePlan(
      policy, changeLogs: changeLogs, of: component, grace: grace, readsLast: readsLast)
    var outcome = PruneOutcome(plan: plan)
    let allowed = approved.map(Approval.init)
    let moment = now()

    if let lock = plan.lock {
      for key in plan.extensions {
        try lease?.check()
        do {
          try await tier.extendRetention(of: key, lock)
          outcome.extended += 1
          onChange(outcome)
        } catch let error as DRError where error.code == .objectNotFound {
          continue
        }
      }
    }
    let all = if let component { [folder(of: component)] } else { try await folders() }
    // Before anything goes, whatever must stay has its verdict.
    for folder in all {
      let ledger = PruneLedger(tier: tier, folder: folder)
      let standings = try await ledger.standings()
      for decision in plan.decisions where decision.action == .rescue && self.folder(of: decision.component) == folder {
        guard let standing = standings[decision.backup], standing.isMarked else { continue }
        try await confirm(lease)
        let verdict = try await ledger.decide(
          decision.backup, standing, .stay, reason: decision.reasons.joined(separator: "; "), at: moment, lease)
        guard verdict == .stay else {
          // Another pruning was faster, and the plan counted on this one.
          throw DRError(
            .leaseLost, "another pruning has decided otherwise about \(decision.backup)",
            advice: "run it again: it will plan with what is there then", component: decision.component,
            object: decision.backup)
        }
        outcome.rescued.append(decision.backup)
        onChange(outcome)
      }
    }
    for folder in all {
      try await remove(in: folder, plan, allowed, moment, tombstones, lease, logger, &outcome, onChange)
    }
    try await removeSegments(plan, allowed, lease, &outcome, onChange)
    return outcome
  }

  /// Removes what goes without a byte being written: segments that no backup needs, and what is left of removals that were begun. For a
  /// disk that is so full that not even a lease can be taken on it; afterwards, ``prune(_:changeLogs:of:grace:approved:lease:tombstones:readsLast:logger:onChange:)``
  /// does the rest.
  ///
  /// It needs no lease: a log goes only as far as backups have gone, and a verdict to go stands.
  ///
  /// - Throws: As the pruning.
  public func pruneWithoutWriting(
    _ policy: RetentionPolicy, changeLogs: [ChangeLogRule] = ChangeLogRule.all, of component: Component? = nil,
    grace: Duration = .seconds(86_400)
  ) async throws -> PruneOutcome {
    let plan = try await prunePlan(policy, changeLogs: changeLogs, of: component, grace: grace)
    var outcome = PruneOutcome(plan: plan)
    for decision in plan.decisions where decision.action == .finish {
      try await removeCondemned(decision.backup, in: folder(of: decision.component), nil, &outcome)
      outcome.removed.append(decision.backup)
    }
    try await removeSegments(plan, nil, nil, &outcome) { _ in }
    return outcome
  }

  private func removeSegments(
    _ plan: PrunePlan, _ allowed: Approval?, _ lease: Lease?, _ outcome: inout PruneOutcome,
    _ onChange: @Sendable (PruneOutcome) -> Void
  ) async throws {
    for log in plan.logs {
      let keys = log.remove.filter { allowed?.segments.contains($0) ?? true }
      for start in stride(from: 0, to: keys.count, by: 500) {
        try await confirm(lease)
        let batch = Array(keys[start..<min(start + 500, keys.count)])
        let failures = try await tier.deleteAll(batch)
        outcome.segments += batch.count - failures.count
        onChange(outcome)
        try sort(failures, &outcome)
      }
    }
  }

  /// What a plan that was looked at allows.
  private struct Approval {
    var marks: Set<String> = []
    var removals: Set<String> = []
    var segments: Set<ObjectKey> = []

    init(_ plan: PrunePlan) {
      for decision in plan.decisions {
        let name = "\(decision.component) \(decision.backup)"
        if decision.action == .mark { marks.insert(name) }
        if decision.action == .remove || decision.action == .finish || decision.action == .locked {
          removals.insert(name)
        }
      }
      segments = Set(plan.logs.flatMap(\.remove))
    }
  }

  private func confirm(_ lease: Lease?) async throws { try await lease?.confirm() }

  /// Marks, and removes what is due, in one folder.
  private func remove(
    in folder: BackupFolder, _ plan: PrunePlan, _ allowed: Approval?, _ moment: Date, _ tombstones: Duration,
    _ lease: Lease?, _ logger: Logger, _ outcome: inout PruneOutcome,
    _ onChange: @Sendable (PruneOutcome) -> Void
  ) async throws {
    let ledger = PruneLedger(tier: tier, folder: folder)
    let standings = try await ledger.standings()
    for decision in plan.decisions where self.folder(of: decision.component) == folder {
      let (id, name) = (decision.backup, "\(decision.component) \(decision.backup)")
      let reason = decision.reasons.joined(separator: "; ")
      switch decision.action {
      case .mark where allowed?.marks.contains(name) ?? true:
        // Marked since by another: it counts from then.
        guard !(standings[id]?.isMarked ?? false) else { continue }
        try lease?.check()
        if try await ledger.mark(id, after: standings[id], reason: reason, at: moment, lease) {
          outcome.marked.append(id)
          onChange(outcome)
        }
      case .remove where allowed?.removals.contains(name) ?? true:
        guard let standing = standings[id] else { continue }
        try await confirm(lease)
        // Whoever decided first: if it is to stay, it stays.
        guard try await ledger.decide(id, standing, .go, reason: reason, at: moment, lease) == .go else { continue }
        outcome.begun = id
        onChange(outcome)
        try await removeCondemned(id, in: folder, lease, &outcome)
        outcome.begun = nil
        outcome.removed.append(id)
        onChange(outcome)
        logger.info("backup removed", metadata: ["backup.id": "\(id)", "reason": "\(reason)"])
      case .finish where allowed?.removals.contains(name) ?? true:
        outcome.begun = id
        onChange(outcome)
        try await removeCondemned(id, in: folder, lease, &outcome)
        outcome.begun = nil
        outcome.removed.append(id)
        onChange(outcome)
      default: continue
      }
    }
    // What is left of those whose manifest is gone, and the memory of those that are gone for long.
    let committed = Set(
      try await tier.listAll(prefix: folder.metadataPrefix).compactMap { object in
        if case .manifest(let id) = folder.metadata(object.key) { id } else { nil }
      })
    let limit = moment.addingTimeInterval(-(tombstones / .seconds(1)))
    for (id, standing) in standings where standing.isCondemned && !committed.contains(id) {
      try lease?.check()
      for cadence in Cadence.all {
        let left = try await tier.listAll(prefix: folder.artifacts(id, cadence)).map(\.key)
        if !left.isEmpty { try sort(try await tier.deleteAll(left), &outcome) }
      }
      if let decided = standing.decided, decided < limit { try await ledger.forget(id, through: standing.generation) }
    }
  }

  /// The manifest, then the rest. Its verdict stands: to do this twice, or late, harms nothing.
  private func removeCondemned(
    _ id: String, in folder: BackupFolder, _ lease: Lease?, _ outcome: inout PruneOutcome
  ) async throws {
    try lease?.check()
    let manifest = try folder.manifest(id)
    do {
      try await tier.delete(manifest)
    } catch let error as DRError where error.code == .objectLocked {
      // As long as the manifest is there, what it names stays.
      outcome.locked.append(manifest)
      return
    }
    var rest: [ObjectKey] = [try folder.marker(id), try folder.replica(id)]
    for cadence in Cadence.all { rest += try await tier.listAll(prefix: folder.artifacts(id, cadence)).map(\.key) }
    try sort(try await tier.deleteAll(rest), &outcome)
  }

  /// Locks are reported; anything else that kept an object from going is thrown.
  private func sort(_ failures: [ObjectKey: DRError], _ outcome: inout PruneOutcome) throws {
    outcome.locked += failures.filter { $0.value.code == .objectLocked }.keys.sorted()
    if let error = failures.values.first(where: { $0.code != .objectLocked }) { throw error }
  }
}
