public import DRCore
public import DRPlan

extension Platform {
  /// One thing that the plan wants done, and the program for it, if there is one.
  public struct Task: Sendable {
    public var component: Component
    public var priority: Objective.Priority
    /// The capture's name, or `verification, <level>`.
    public var what: String
    public var capture: ProtectionPlan.Capture?
    /// Of a verification.
    public var level: ProtectionPlan.Level?
    public var schedule: ScheduledJob.Schedule
    public var work: Work?
    public var environment: [String: String]

    public var id: String { "\(component) \(what)" }
    /// Whether its success says something of a backup's content, and not only that it is there.
    public var verifiesContent: Bool { level.map { $0 != .metadata } ?? false }

    /// Nil if no program does it.
    public var job: ScheduledJob? {
      guard let work else { return nil }
      var job = ScheduledJob(id, schedule, CommandAction(work.run, environment: environment))
      job.missed = work.missed ?? job.missed
      job.jitter = work.jitter ?? job.jitter
      job.attempts = work.attempts ?? job.attempts
      job.pause = work.pause ?? job.pause
      job.limit = work.limit ?? job.limit
      return job
    }
  }

  /// Everything that the plan wants done, by priority.
  public var tasks: [Task] {
    plan.components.flatMap { protected in
      let system = systems[protected.component]
      func task(_ what: String, _ schedule: ScheduledJob.Schedule, _ work: Work?) -> Task {
        Task(
          component: protected.component, priority: protected.objective.priority, what: what, schedule: schedule,
          work: work, environment: system?.environment ?? [:])
      }
      let captures = protected.captures.map { capture in
        var made = task(capture.name, capture.schedule.scheduled, system?.captures[capture.name])
        made.capture = capture
        return made
      }
      let verifications = protected.verifications.map {
        var made = task("verification, \($0.level.rawValue)", .cron($0.schedule), system?.verifications[$0.level])
        made.level = $0.level
        return made
      }
      return captures + verifications
    }.sorted { $0.priority < $1.priority }
  }
}

extension ProtectionPlan.Schedule {
  var scheduled: ScheduledJob.Schedule {
    switch self {
    case .cron(let cron): .cron(cron)
    case .continuous, .onChange: .always
    }
  }
}
