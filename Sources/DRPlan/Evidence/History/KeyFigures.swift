public import DRCore
public import DRStorage
import DRVerify

public import struct Foundation.Date

/// The key performance indicators of a platform (appendix C of the plan document), computed from what was recorded of its runs. What was
/// not recorded is "no data", never met.
public struct KeyFigures: Sendable {
  /// So many of so many.
  public struct Share: Hashable, Sendable {
    public var done: Int
    public var all: Int

    public init(_ done: Int, of all: Int) {
      self.done = done
      self.all = all
    }

    /// Cut, not rounded: 99.96 % are not 100 %.
    var percent: String { all == 0 ? "" : "\((Double(done) / Double(all) * 1000).rounded(.down) / 10) %" }
  }

  public var reports: [RunReport]
  /// What is in the catalogue.
  public var backups: [BackupManifest]
  /// The audit trail.
  public var operations: [AuditRecord]
  /// Backups that are whole on a further tier, of those that should be there; nil: nobody looked.
  public var copies: Share?
  /// Backups that are kept as the retention says, of those that it says something about; nil: nobody looked.
  public var retained: Share?
  /// What is looked at, back from `now`.
  public var period: Span
  public var now: Date

  public init(
    reports: [RunReport] = [], backups: [BackupManifest] = [], operations: [AuditRecord] = [], copies: Share? = nil,
    retained: Share? = nil, period: Span = .days(30), now: Date
  ) {
    self.reports = reports
    self.backups = backups
    self.operations = operations
    self.copies = copies
    self.retained = retained
    self.period = period
    self.now = now
  }

  /// In the document's order.
  public var all: [KeyFigure] {
    [
      completionTime, successRate, sizeGrowth,
      share(
        "upload-success", "Uploads of backups to the further tiers", copies, "no copy was compared with the repository"),
      share(
        "retention-compliance", "Backups kept as the retention says", retained,
        "no retention was compared with the catalogue"),
      worst("recovery-time", "Recovery time of the platform", [.drill, .recovery], \.rto),
      worst("recovery-point", "Recovery point of critical data", [.drill, .recovery], \.rpo),
      passed("restore-test-success", "Restore tests that passed", [.restoreTest]), validation, detection,
      worst("drill-recovery-time", "Recovery time in drills", [.drill], \.rto), procedures,
      KeyFigure(
        "team-readiness", "All roles present and qualified", target: "100 %", noData: "no run records who was there"),
      resolution,
      KeyFigure(
        "documentation-updates", "Documentation updated after each change of procedures", target: "100 %",
        noData: "no run records it"),
    ]
  }

  private func isRecent(_ moment: Date) -> Bool {
    let age = now.timeIntervalSince(moment)
    return age >= 0 && age <= period.seconds
  }

  private func recent(_ kinds: Set<RunReport.Kind>) -> [RunReport] {
    reports.filter { kinds.contains($0.kind) && isRecent($0.ended) && $0.verdict != .notConfigured }
  }

  private var since: String { "in \(period)" }

  // MARK: Backups

  private var completionTime: KeyFigure {
    let (id, title, target) = ("backup-completion-time", "Time of a daily full backup, at most", "< 1h")
    let daily = backups.filter { $0.cadence == .daily && $0.parent == nil && isRecent($0.ended) }
    guard
      let longest = daily.max(by: { $0.ended.timeIntervalSince($0.started) < $1.ended.timeIntervalSince($1.started) })
    else { return KeyFigure(id, title, target: target, noData: "no daily backup was made \(since)") }
    let time = Span.seconds(longest.ended.timeIntervalSince(longest.started))
    return KeyFigure(
      id, title, target: target, value: "\(time.rounded)", isMet: time < .hours(1),
      basis: "\(daily.count) backups \(since), the longest \(longest.component) \(longest.id)")
  }

  private var successRate: KeyFigure {
    let (id, title, target) = ("backup-success-rate", "Backups that succeeded", "≥ 99.9 %")
    let mine = operations.filter { $0.operation == "backup" && isRecent($0.when) }
    let done = mine.count { $0.outcome == .done }
    // One that was begun and of which nothing more is known, has not succeeded; one that runs still counts with it.
    let all = max(mine.count { $0.outcome == .begun }, mine.count { $0.outcome != .begun })
    guard all > 0 else { return KeyFigure(id, title, target: target, noData: "the audit trail has no backup \(since)") }
    return KeyFigure(
      id, title, target: target, value: Share(done, of: all).percent, isMet: done * 1000 >= all * 999,
      basis: "\(done) of \(all) backups in the audit trail \(since)")
  }

  private var sizeGrowth: KeyFigure {
    let (id, title, target) = ("backup-size-growth", "Size of the newest backups against those before", "within 10 %")
    let full = backups.filter { $0.parent == nil && $0.rawSize > 0 }
    let groups = Dictionary(grouping: full) { "\($0.component) \($0.cadence)" }
    var worst: (group: String, change: Double)?
    var counted = 0
    for (group, members) in groups.sorted(by: { $0.key < $1.key }) {
      let sorted = members.sorted { $0.ended < $1.ended }
      let before = sorted.dropLast().suffix(10).map(\.rawSize).sorted()
      guard let newest = sorted.last, !before.isEmpty else { continue }
      counted += 1
      let usual = Double(before[before.count / 2])
      let change = (Double(newest.rawSize) - usual) / usual
      if change.magnitude >= worst?.change.magnitude ?? 0 { worst = (group, change) }
    }
    guard let worst else {
      return KeyFigure(id, title, target: target, noData: "no component has two full backups of a cadence")
    }
    let percent = (worst.change * 1000).rounded() / 10
    return KeyFigure(
      id, title, target: target, value: "\(percent >= 0 ? "+" : "")\(percent) %", isMet: worst.change.magnitude <= 0.1,
      basis: "\(counted) series of backups against the median of up to ten before, most in \(worst.group)")
  }

  private func share(_ id: String, _ title: String, _ share: Share?, _ otherwise: String) -> KeyFigure {
    guard let share, share.all > 0 else { return KeyFigure(id, title, target: "100 %", noData: otherwise) }
    return KeyFigure(
      id, title, target: "100 %", value: share.percent, isMet: share.done >= share.all,
      basis: "\(share.done) of \(share.all) backups")
  }

  // MARK: Recoveries

  /// The worst of a measure, each against the target of its own time.
  private func worst(
    _ id: String, _ title: String, _ kinds: Set<RunReport.Kind>, _ measure: KeyPath<RunReport, RunReport.Measure>
  ) -> KeyFigure {
    let runs = recent(kinds).filter { $0[keyPath: measure].target != nil }
    let measured = runs.filter { $0[keyPath: measure].actual != nil }
    func ratio(_ run: RunReport) -> Double {
      (run[keyPath: measure].actual?.seconds ?? 0) / max(run[keyPath: measure].target?.seconds ?? 0, 0.001)
    }
    guard let worst = measured.max(by: { ratio($0) < ratio($1) }) else {
      return KeyFigure(id, title, target: "≤ target", noData: "no run \(since) measured it")
    }
    let open = runs.count - measured.count
    return KeyFigure(
      id, title, target: worst[keyPath: measure].target.map { "≤ \($0)" } ?? "≤ target",
      value: ReportWords.measure(worst[keyPath: measure]),
      isMet: open == 0 && !measured.contains { $0[keyPath: measure].isExceeded },
      basis: "\(measured.count) runs \(since), the worst '\(worst.plan.name)'"
        + (open > 0 ? "; \(open) did not measure it" : ""))
  }

  private func passed(_ id: String, _ title: String, _ kinds: Set<RunReport.Kind>) -> KeyFigure {
    let runs = recent(kinds)
    guard !runs.isEmpty else { return KeyFigure(id, title, target: "100 %", noData: "there was none \(since)") }
    let done = runs.count { $0.verdict == .passed }
    return KeyFigure(
      id, title, target: "100 %", value: Share(done, of: runs.count).percent, isMet: done == runs.count,
      basis: "\(done) of \(runs.count) \(since)")
  }

  private var validation: KeyFigure {
    let (id, title) = ("data-validation-success", "Checks of restored and stored data that passed")
    let findings = recent([.verification, .restoreTest, .drill]).flatMap(\.findings)
      .filter { $0.severity == .passed || $0.severity == .failure }
    guard !findings.isEmpty else {
      return KeyFigure(id, title, target: "100 %", noData: "nothing was checked \(since)")
    }
    let done = findings.count { $0.severity == .passed }
    return KeyFigure(
      id, title, target: "100 %", value: Share(done, of: findings.count).percent, isMet: done == findings.count,
      basis: "\(done) of \(findings.count) checks \(since)")
  }

  private var detection: KeyFigure {
    let (id, title, target) = ("time-to-detect", "Time to detect, at most", "< 5m")
    let times = recent([.drill, .recovery]).compactMap { report in
      report.phases.first { $0.kind == .detection && $0.notExecuted == nil }?.duration
    }
    guard let longest = times.max() else {
      return KeyFigure(id, title, target: target, noData: "no run \(since) measured it")
    }
    return KeyFigure(
      id, title, target: target, value: "\(longest.rounded)", isMet: longest < .minutes(5),
      basis: "\(times.count) runs \(since)")
  }

  // MARK: Drills

  private var procedures: KeyFigure {
    let (id, title) = ("procedures-accuracy", "Steps of drills that were done as planned")
    let steps = recent([.drill]).flatMap(\.phases).flatMap(\.steps)
    guard !steps.isEmpty else { return KeyFigure(id, title, target: "100 %", noData: "no drill \(since) had steps") }
    let done = steps.count { $0.outcome == .done || $0.outcome == .skipped }
    return KeyFigure(
      id, title, target: "100 %", value: Share(done, of: steps.count).percent, isMet: done == steps.count,
      basis: "\(done) of \(steps.count) steps \(since)")
  }

  /// From a drill that did not pass to the next run of its plan that did.
  private var resolution: KeyFigure {
    let (id, title, target) = ("issue-resolution-time", "From a drill that failed to one that passed", "< 24h")
    var longest: (time: Span, plan: String, isOpen: Bool)?
    let drills = reports.filter { $0.kind == .drill && $0.verdict != .notConfigured }.sorted { $0.ended < $1.ended }
    var issues = 0
    for (plan, runs) in Dictionary(grouping: drills, by: \.plan.name).sorted(by: { $0.key < $1.key }) {
      var failed: Date?
      func end(_ moment: Date, isOpen: Bool) {
        guard let since = failed, isRecent(moment) else { return }
        issues += 1
        let time = Span.seconds(moment.timeIntervalSince(since))
        if time >= longest?.time ?? .seconds(0) { longest = (time, plan, isOpen) }
      }
      for run in runs {
        if run.verdict != .passed {
          failed = failed ?? run.ended
        } else {
          end(run.ended, isOpen: false)
          failed = nil
        }
      }
      end(now, isOpen: true)
    }
    guard let longest else {
      return KeyFigure(id, title, target: target, noData: "no drill failed that was open \(since)")
    }
    return KeyFigure(
      id, title, target: target, value: "\(longest.time.rounded)" + (longest.isOpen ? ", still open" : ""),
      isMet: longest.time < .hours(24), basis: "\(issues) issues \(since), the longest of '\(longest.plan)'")
  }
}
