public import DRStorage

public import struct Foundation.Date

extension KeyFigures.Share {
  /// Of the repository's backups, on each of its copies: those that are whole there. What retention has removed there, and what was made within the
  /// last `lag`, need not be there; a copy that could not be read has nothing.
  ///
  /// - Parameters:
  ///   - status: The first tier is the repository.
  ///   - unreachable: How many more copies there are, which could not be looked at.
  public static func copies(
    _ status: ReplicationStatus, unreachable: Int = 0, lag: Span = .hours(2), now: Date
  ) -> KeyFigures.Share {
    var share = KeyFigures.Share(0, of: 0)
    for row in status.rows where now.timeIntervalSince(row.ended) > lag.seconds {
      guard case .whole? = row.places.first else { continue }
      share.all += unreachable
      for place in row.places.dropFirst() where place != .removed {
        share.all += 1
        if case .whole = place { share.done += 1 }
      }
    }
    return share
  }

  /// Of the backups of a repository, and of those that were made in it: those that are kept as a policy says. Kept and whole is what a rule keeps;
  /// marked, or gone, is what none does. One that was made, is gone, and is younger than a rule keeps everything, is not.
  ///
  /// - Parameters:
  ///   - operations: The audit trail: what was made.
  ///   - slack: How long pruning may take to mark what no rule keeps any more.
  /// - Throws: What the repository throws.
  public static func retained(
    in repository: Repository, by policy: RetentionPolicy, operations: [AuditRecord], slack: Span = .days(2), now: Date
  ) async throws -> KeyFigures.Share {
    let plan = try await repository.prunePlan(policy)
    var overdue: Set<String> = []
    if plan.decisions.contains(where: { $0.action == .mark }) {
      // What no rule kept then either should have been marked by now.
      let before = Repository(tier: repository.tier, layout: repository.layout) {
        now.addingTimeInterval(-slack.seconds)
      }
      overdue = Set(
        try await before.prunePlan(policy).decisions.filter { $0.action == .mark }.map {
          "\($0.component) \($0.backup)"
        })
    }
    var share = KeyFigures.Share(0, of: 0)
    for decision in plan.decisions {
      let isRight =
        switch decision.action {
        case .keep, .rescue: !decision.isTorn
        case .mark: !overdue.contains("\(decision.component) \(decision.backup)")
        case .wait, .locked: true
        case .remove, .finish: false
        }
      share.all += 1
      if isRight { share.done += 1 }
    }
    let there = Set(plan.decisions.map { "\($0.component) \($0.backup)" })
    let lost = Set(
      operations.compactMap { record -> String? in
        guard record.operation == "backup", record.outcome == .done, let component = record.component,
          let backup = record.object, backup.hasPrefix("backup_"), !there.contains("\(component) \(backup)"),
          policy.rules(for: component).contains(where: { $0.keepsEverything(of: record.when, at: now) })
        else { return nil }
        return "\(component) \(backup)"
      })
    share.all += lost.count
    return share
  }
}

extension RetentionPolicy.Rule {
  /// Whether it keeps each backup that was made at a moment, whichever others there are.
  fileprivate func keepsEverything(of moment: Date, at now: Date) -> Bool {
    guard case .within(let seconds) = kind, cadence == nil else { return false }
    // The recovery point of a backup is a little older than its end.
    return now.timeIntervalSince(moment) < seconds - 3600
  }
}
