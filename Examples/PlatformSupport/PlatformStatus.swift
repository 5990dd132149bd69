public import DRCore
public import DRPlan
import DRStorage
import ExampleSupport
public import Foundation
import Logging

/// Where a platform stands: each component's recovery points, what its jobs did, and what could not be looked at.
public struct PlatformStatus: Sendable {
  /// A recovery plan, or a drill, and whether it can be relied on.
  public struct Plan: Sendable {
    public var name: String
    public var standing: PlanStanding

    /// That nobody has tried a plan fails nothing: that its last run failed does.
    fileprivate var finding: Finding {
      let severity: Finding.Severity =
        switch standing {
        case .verified: .passed
        case .failing: .failure
        case .neverDrilled, .unproven, .void, .stale: .warning
        }
      return Finding(
        "plan-standing", severity, subject: name, evidence: "\(standing)",
        advice: standing.isVerified
          ? nil : "run it (dr-plan recover, dr-drill), and keep its report: --history with the platform's repository")
    }
  }

  public var moment: Date
  public var standings: [RecoveryStanding]
  public var findings: [Finding]
  /// What the scheduler remembers; nil: it never ran.
  public var book: ScheduleBook?
  /// When the runs began that succeeded last, of those that were begun by hand.
  public var byHand: [String: Date] = [:]
  /// Whether recovery plans can be relied on, by what the platform's repository keeps of their runs.
  public var plans: [Plan] = []
  /// Components that could not be looked at, and why.
  public var unreachable: [String]

  /// Looks at every repository of the plan's components; nothing is written, and no content is read.
  ///
  /// - Parameters:
  ///   - measured: What restores were measured to take.
  ///   - drilledWithin: For how long a drill, or a recovery, that passed counts.
  public static func of(
    _ platform: Platform, measured: [Component: MeasuredRestore], verifiedWithin: Span, drilledWithin: Span,
    at moment: Date
  ) async -> PlatformStatus {
    var status = PlatformStatus(moment: moment, standings: [], findings: [], book: nil, unreachable: [])
    do {
      let tier = try await platform.tier(reading: true)
      status.book = try await Scheduler.book(of: Platform.scheduler, on: tier)?
        .standing(of: platform.tasks.compactMap(\.job), at: moment)
      status.byHand = try await Scheduler.byHand(of: Platform.scheduler, on: tier)
      try await status.look(at: ReportHistory(on: tier), platform, drilledWithin)
    } catch {
      status.unreachable.append("the scheduler's memory: \(DRError.text(of: error))")
    }
    for protected in platform.plan.components {
      do {
        status.standings.append(try await status.standing(of: protected, platform, measured[protected.component]))
      } catch {
        status.unreachable.append("\(protected.component): \(DRError.text(of: error))")
      }
    }
    for standing in status.standings {
      status.findings += standing.findings(at: moment, verifiedWithin: verifiedWithin)
    }
    status.findings += status.jobFindings(platform) + status.plans.map(\.finding)
    status.findings.append(status.platformFinding(platform))
    return status
  }

  /// The platform's own plans, and whatever else has a history: a drill, say, whose plan is its own.
  private mutating func look(at history: ReportHistory, _ platform: Platform, _ age: Span) async throws {
    let reports = try await history.entries().compactMap(\.report)
    for file in platform.recoveryPlans {
      do {
        let plan = try RunReport.Plan(file: file)
        plans.append(Plan(name: plan.name, standing: .of(plan, in: reports, for: age, now: moment)))
      } catch {
        unreachable.append("\(file): \(DRError.text(of: error))")
      }
    }
    let others = reports.filter { [.drill, .recovery].contains($0.kind) }.sorted { $0.ended < $1.ended }
    let last = Dictionary(others.map { ($0.plan.name, $0.plan) }) { $1 }
    for (name, plan) in last.sorted(by: { $0.key < $1.key }) where !plans.contains(where: { $0.name == name }) {
      plans.append(Plan(name: name, standing: .of(plan, in: reports, for: age, now: moment)))
    }
  }

  private mutating func standing(
    of protected: ProtectionPlan.Protected, _ platform: Platform, _ measured: MeasuredRestore?
  ) async throws -> RecoveryStanding {
    let component = protected.component
    guard let file = platform.systems[component]?.config else {
      throw DRError(
        .invalidConfiguration, "the platform's file names no configuration of it",
        advice: "say \"config\": its programs' configuration file", component: component)
    }
    let settings = try RepositoryConfiguration(file: file)
    var tiers = [try await settings.tier(creating: false, probing: .reading)]
    for place in settings.copies ?? [] {
      do {
        tiers.append(try await TierPlace.open(place, creating: false, s3: settings.s3, probing: .reading))
      } catch {
        unreachable.append("\(component), its copy \(place): \(DRError.text(of: error))")
      }
    }
    let seen = await ReplicationStatus.of(tiers.map { Repository(tier: $0) }, component: component)
    for (tier, error) in seen.unreachable.sorted(by: { $0.key < $1.key }) {
      unreachable.append("\(component), \(tier): \(DRError.text(of: error))")
    }
    let wrong = seen.findings(lag: protected.objective.rpo, now: moment)
    // Several components may share a tier: each line says of which it is.
    findings += wrong.map { finding in
      var finding = finding
      if !finding.subject.contains("\(component)") { finding.subject = "\(component), \(finding.subject)" }
      return finding
    }
    let rows = seen.rows.sorted { $0.recoveryPoint < $1.recoveryPoint }
    let whole = rows.filter { $0.places.contains { if case .whole = $0 { true } else { false } } }
    // Where everything was copied to, when a segment was stored says nothing of when what is in it was written.
    let isCopied = try await isCopied(whole.last, in: Repository(tier: tiers[0]))
    if isCopied {
      findings.append(
        Finding(
          "log-reach", .notice, subject: "\(component)",
          evidence: "the repository was copied to where it is: how far its log goes is not known without reading it",
          advice: "take a new backup; or read the log: the component's program checks it"))
    }
    let isLogWhole = !isCopied && !wrong.contains { $0.severity == .failure }
    let log = isLogWhole && !whole.isEmpty ? seen.logs.compactMap { $0.places.first??.stored }.max() : nil
    let durable = [whole.last?.recoveryPoint, log].compactMap { $0 }.max().map { min($0, moment) }
    // A verification looks at the newest backup that is there when it begins.
    let looked = platform.tasks.filter { $0.component == component && $0.verifiesContent }
      .flatMap { task in
        let entry = book?.jobs[task.id]
        return [entry?.lastSuccessBegan ?? entry?.lastSuccess, byHand[task.id]]
      }.compactMap { $0 }.max()
    let byJob = looked.flatMap { looked in whole.last { $0.ended <= looked }?.recoveryPoint }
    let byCopy = whole.last {
      $0.places.contains { if case .whole(let verified, _) = $0 { verified != nil } else { false } }
    }?.recoveryPoint
    return RecoveryStanding(
      component, durable: durable, verified: [byJob, byCopy].compactMap { $0 }.max(),
      forecasts: forecasts(protected, platform, measured), promised: protected.objective)
  }

  /// A backup is stored within minutes of its end.
  private func isCopied(_ newest: ReplicationStatus.Row?, in repository: Repository) async throws -> Bool {
    guard let newest else { return false }
    guard let stored = try await repository.manifestStored(newest.backup, of: newest.component) else { return false }
    return stored.timeIntervalSince(newest.ended) > 3600
  }

  private func forecasts(
    _ protected: ProtectionPlan.Protected, _ platform: Platform, _ measured: MeasuredRestore?
  ) -> [String: Span] {
    guard let measured else { return [:] }
    let held = platform.plan.tiers.filter { protected.tiers.contains($0.name) }
    return Dictionary(
      held.map { ($0.name, platform.plan.forecast(of: measured, from: $0)) }, uniquingKeysWith: { first, _ in first })
  }

  private func jobFindings(_ platform: Platform) -> [Finding] {
    guard let book else {
      return [
        Finding(
          "jobs", .warning, subject: platform.plan.name, evidence: "no scheduler has run on this repository",
          advice: "dr-backup serve runs the plan by its schedules")
      ]
    }
    return overdue(platform, book)
      + book.jobs.sorted { $0.key < $1.key }.compactMap { name, entry in
        guard entry.failures > 0 else { return nil }
        return Finding(
          "job", .failure, subject: name,
          evidence: "failing: \(entry.failures) times since it last succeeded: \(entry.lastError ?? "")",
          advice: "mend the cause; it is tried again by itself")
      }
  }

  /// Jobs whose time came a while ago, and to which no scheduler has looked.
  private func overdue(_ platform: Platform, _ book: ScheduleBook) -> [Finding] {
    guard let zone = TimeZone(identifier: platform.plan.timeZone) else { return [] }
    let late = platform.tasks.compactMap { task -> (job: String, due: Date)? in
      guard let job = task.job, case .cron(let cron) = job.schedule, let entry = book.jobs[job.id],
        entry.running == nil,
        let due = cron.previous(before: moment.addingTimeInterval(-600 - job.jitter.seconds), in: zone),
        due > entry.handled
      else { return nil }
      return (job.id, due)
    }
    guard let first = late.min(by: { $0.due < $1.due }) else { return [] }
    return [
      Finding(
        "scheduler", .failure, subject: platform.plan.name,
        evidence:
          "nobody has looked at \(late.count) jobs whose time has come: '\(first.job)' was due \(Timestamp.format(first.due))",
        advice: "see that dr-backup serve runs on one host at least, and reaches the repository")
    ]
  }

  private func platformFinding(_ platform: Platform) -> Finding {
    let promised = Span(platform.plan.platform.rto)
    guard standings.count == platform.plan.components.count,
      let slowest = RecoveryStanding.platformForecast(standings)
    else {
      return Finding(
        "platform-rto", .notice, subject: platform.plan.name,
        evidence: "not known: not every component's restore was measured",
        advice: "name what was measured: --measured")
    }
    return Finding(
      "platform-rto", slowest.time <= promised ? .passed : .failure, subject: platform.plan.name,
      evidence: "\(slowest.time) side by side, of which \(slowest.component) takes longest; \(promised) promised")
  }
}
