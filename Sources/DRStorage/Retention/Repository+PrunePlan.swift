public import DRCore

import struct Foundation.Date

extension Repository {
  /// Makes the plan of a pruning. Changes nothing.
  ///
  /// - Parameters:
  ///   - changeLogs: Of which logs old segments are removed; no other log is touched.
  ///   - component: Only this one; nil: all.
  ///   - grace: How long a backup stays after it was marked: longer than any restore takes, and than anybody needs to notice.
  ///   - readsLast: Of the last restorable backup of each system, and of what it goes on from, every stored byte is read and compared
  ///     with the manifest: one that is damaged stands for no other. Otherwise presence and size are looked at. What is archived is
  ///     not read.
  /// - Throws: ``DRCore/DRError``: `tierUnavailable`, `timedOut`.
  public func prunePlan(
    _ policy: RetentionPolicy, changeLogs: [ChangeLogRule] = ChangeLogRule.all, of component: Component? = nil,
    grace: Duration = .seconds(86_400), readsLast: Bool = false
  ) async throws -> PrunePlan {
    let moment = now()
    var plan = PrunePlan(tier: tier.name, decisions: [], logs: [], extensions: [], lock: nil, unreadable: [])
    if let lock = policy.lock, tier.capabilities.contains(.objectLock) {
      plan.lock = RetentionLock(lock.mode, until: moment.addingTimeInterval(lock.days * 86_400))
    }
    let all = if let component { [folder(of: component)] } else { try await folders() }
    for folder in all {
      // Before the catalog: a backup that was condemned since is at worst planned for, and its verdict found.
      let standings = try await PruneLedger(tier: tier, folder: folder).standings()
      let stored = try await artifacts(in: folder)
      let (backups, unreadable) = try await manifests(in: folder)
      plan.unreadable += unreadable.map(\.key)
      var facts = PruneFacts(
        backups: backups, whole: try await whole(backups, stored), standings: standings, locked: [:], now: moment,
        grace: grace)
      let components = Set(backups.map(\.component)).sorted { $0.description < $1.description }
        .filter { component == nil || $0 == component }
      if readsLast { try await readLast(of: components, &facts) }
      for component in components {
        let first = facts.decisions(by: policy, for: component)
        let due = first.filter { $0.action == .remove }.map(\.backup)
        facts.locked = try await locks(of: backups.filter { due.contains($0.id) }, in: folder)
        // Identities are unique within a component alone.
        let decisions = facts.locked.isEmpty ? first : facts.decisions(by: policy, for: component)
        plan.decisions += decisions
        let gone = Set(decisions.filter { $0.action == .finish }.map(\.backup))
        let living = backups.filter { $0.component == component && !gone.contains($0.id) }
        var needed = try await kept(living, decisions, folder)
        for rule in changeLogs {
          let logs = try await segments(of: component, in: folder, rule, living, unreadable: !unreadable.isEmpty)
          plan.logs += logs.map { $0.decision }
          needed += logs.flatMap { $0.kept }
        }
        if let lock = plan.lock { plan.extensions += try await extensible(needed, to: lock, from: moment) }
      }
    }
    return plan
  }

  /// Every object below the folders of the cadences, with its size.
  func artifacts(in folder: BackupFolder) async throws -> [ObjectKey: Int64] {
    var sizes: [ObjectKey: Int64] = [:]
    for cadence in Cadence.all {
      for object in try await tier.listAll(prefix: "\(folder.path)/\(cadence)/") { sizes[object.key] = object.size }
    }
    return sizes
  }

  private func whole(_ backups: [BackupManifest], _ stored: [ObjectKey: Int64]) async throws -> Set<String> {
    var whole: Set<String> = []
    for backup in backups {
      var isWhole = !backup.artifacts.isEmpty
      for artifact in backup.artifacts where isWhole {
        var size = stored[artifact.key]
        if size == nil { size = try await tier.head(artifact.key)?.size }
        isWhole = size == artifact.storedSize
      }
      if isWhole { whole.insert(backup.id) }
    }
    return whole
  }

  /// Takes those for torn of which something is damaged, until the last restorable backup of each system is none of them.
  private func readLast(of components: [Component], _ facts: inout PruneFacts) async throws {
    for component in components {
      for (_, members) in facts.systems(of: component) {
        var seen: Set<String> = []
        while let damaged = try await firstDamaged(in: facts.lastChain(members), &seen) { facts.whole.remove(damaged) }
      }
    }
  }

  private func firstDamaged(in chain: [BackupManifest], _ seen: inout Set<String>) async throws -> String? {
    for link in chain where seen.insert(link.id).inserted {
      for artifact in link.artifacts {
        do {
          var check = StreamCheck(
            "stored", size: artifact.storedSize, sha256: artifact.storedSHA256, object: artifact.key.rawValue)
          for try await buffer in try await tier.get(artifact.key, range: nil) { check.add(buffer) }
          try check.finish()
        } catch let error as DRError where error.code == .objectArchived {
          continue
        } catch let error as DRError
          where [.corruptData, .truncatedData, .objectNotFound, .malformedData].contains(error.code)
        {
          return link.id
        }
      }
    }
    return nil
  }

  /// Which of these backups are held, by identity.
  private func locks(of backups: [BackupManifest], in folder: BackupFolder) async throws -> [String: Date?] {
    guard tier.capabilities.contains(.objectLock) else { return [:] }
    var locked: [String: Date?] = [:]
    for backup in backups {
      for key in [try folder.manifest(backup.id)] + backup.artifacts.map(\.key) {
        guard let info = try await tier.head(key) else { continue }
        if info.legalHold { locked[backup.id] = .some(nil) }
        guard let until = info.lockedUntil, until > now() else { continue }
        if case .some(.none) = locked[backup.id] { continue }
        locked[backup.id] = .some(max(until, (locked[backup.id] ?? nil) ?? until))
      }
    }
    return locked
  }

  /// What the backups that stay are made of. Manifests are small and must not go before what they name.
  private func kept(_ living: [BackupManifest], _ decisions: [PrunePlan.Decision], _ folder: BackupFolder) async throws
    -> [ObjectKey]
  {
    let staying = Set(decisions.filter { $0.action == .keep || $0.action == .rescue }.map(\.backup))
    return try living.filter { staying.contains($0.id) }.flatMap {
      [try folder.manifest($0.id)] + $0.artifacts.map(\.key)
    }
  }

  private func segments(
    of component: Component, in folder: BackupFolder, _ rule: ChangeLogRule, _ living: [BackupManifest],
    unreadable: Bool
  ) async throws -> [(decision: PrunePlan.LogDecision, kept: [ObjectKey])] {
    let root = "\(folder.path)/\(rule.log)/"
    var found: [(decision: PrunePlan.LogDecision, kept: [ObjectKey])] = []
    for system in try await tier.folders(below: root) {
      // A manifest that cannot be read may be that of the oldest backup.
      let horizon = unreadable ? nil : rule.horizon(of: living, for: system)
      var decision = PrunePlan.LogDecision(
        component: component, log: rule.log, systemIdentifier: system, keep: 0, remove: [], removedBytes: 0,
        reason: horizon.map {
          "what was stored from \(Timestamp.format($0)) on stays (the oldest backup began at "
            + "\(Timestamp.format($0.addingTimeInterval(rule.margin))); the margin of \(Int(rule.margin / 60)) min before is for "
            + "clocks that differ), and so does whatever the position of a backup needs"
        }
          ?? (unreadable ? "a manifest cannot be read" : "no backup of this system says what it needs"))
      var kept: [ObjectKey] = []
      let objects = try await tier.listAll(prefix: "\(root)\(system)/")
      for (object, isNeeded) in zip(objects, rule.needed(objects, of: system, by: living, after: horizon)) {
        // What is no segment is somebody else's.
        if isNeeded == false {
          decision.remove.append(object.key)
          decision.removedBytes += object.size
        } else {
          decision.keep += 1
          // A partial one is replaced as it grows.
          if SegmentFileName(parsing: object.key.lastComponent)?.sha256 != nil { kept.append(object.key) }
        }
      }
      found.append((decision, kept))
    }
    return found
  }

  /// Those whose lock ends in the first half of what is asked for: so each is asked for twice in that time, not each day.
  private func extensible(
    _ keys: [ObjectKey], to lock: RetentionLock, from moment: Date
  ) async throws -> [ObjectKey] {
    let enough = moment.addingTimeInterval(lock.until.timeIntervalSince(moment) / 2)
    return try await concurrently(keys, limit: 8) { key in
      let info = try await tier.head(key)
      return info.map { $0.lockedUntil.map { $0 < enough } ?? true } ?? false ? key : nil
    }.compactMap { $0 }
  }
}

/// Works on items so many at a time; results are in the order of the items.
func concurrently<Item: Sendable, Output: Sendable>(
  _ items: [Item], limit: Int, _ work: @escaping @Sendable (Item) async throws -> Output
) async throws -> [Output] {
  try await withThrowingTaskGroup(of: (Int, Output).self) { group in
    var results: [Int: Output] = [:]
    var next = 0
    func start() {
      guard next < items.count else { return }
      let (index, item) = (next, items[next])
      next += 1
      group.addTask { (index, try await work(item)) }
    }
    for _ in 0..<max(1, limit) { start() }
    while let (index, output) = try await group.next() {
      results[index] = output
      start()
    }
    return items.indices.compactMap { results[$0] }
  }
}
