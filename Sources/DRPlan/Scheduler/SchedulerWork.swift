import DRCore
import DRStorage
import Foundation
import Logging
import Metrics
import ServiceLifecycle

/// What the owner of a scheduler's lease does, until it is told to end.
struct SchedulerWork: Sendable {
  private enum Wake: Sendable {
    case time
    case ended(String, ScheduleBook.Outcome, evidence: String)
    case shutdown
    case graceIsOver
  }

  private let scheduler: Scheduler
  private let store: ScheduleStore
  private let lease: Lease
  private let logger: Logger

  /// A look at the clock at least so often: it may be set, and hosts sleep.
  private static let longestSleep = 20.0

  init(_ scheduler: Scheduler, _ store: ScheduleStore, _ lease: Lease, _ logger: Logger) {
    self.scheduler = scheduler
    self.store = store
    self.lease = lease
    self.logger = logger
  }

  func run() async throws {
    var book = try await store.read() ?? ScheduleBook()
    book.open(scheduler.jobs, at: Date())
    await remember(book)
    do {
      try await store.removeBefore(lease)
    } catch {
      logger.notice("what an earlier scheduler remembered was not removed", metadata: ["error": "\(error)"])
    }
    let jobs = Dictionary(uniqueKeysWithValues: scheduler.jobs.map { ($0.id, $0) })
    var running: [String: Task<Wake, Never>] = [:]
    defer { for task in running.values { task.cancel() } }
    var isEnding = false
    try await withThrowingTaskGroup(of: Wake.self) { group in
      defer { group.cancelAll() }
      group.addTask {
        try await gracefulShutdown()
        return .shutdown
      }
      /// The earliest of the sleeps that go on.
      var wake: Date?
      while true {
        if !isEnding {
          for decision in book.decide(scheduler.jobs, at: Date(), in: scheduler.timeZone) {
            await scheduler.onEvent(.decided(decision))
            guard case .begin(let order) = decision, let job = jobs[order.job] else { continue }
            // Entered before it begins: whoever comes after a crash knows of it.
            await remember(book)
            let task = Task { await perform(job) }
            running[job.id] = task
            group.addTask {
              await withTaskCancellationHandler {
                await task.value
              } onCancel: {
                task.cancel()
              }
            }
          }
          let now = Date()
          let next = min(
            book.next(scheduler.jobs, after: now, in: scheduler.timeZone) ?? .distantFuture,
            now.addingTimeInterval(Self.longestSleep))
          if wake.map({ next < $0 || $0 <= now }) ?? true {
            wake = next
            group.addTask {
              try await Task.sleep(for: .seconds(max(0.05, next.timeIntervalSince(now))))
              return .time
            }
          }
        } else if running.isEmpty {
          return
        }
        guard let event = try await group.next() else { return }
        switch event {
        case .time: break
        case .ended(let id, let outcome, let evidence):
          running[id] = nil
          guard let job = jobs[id] else { break }
          let took = book.jobs[id]?.running.map { Date().timeIntervalSince($0.at) } ?? 0
          let again = book.end(job, outcome, outcome == .succeeded ? nil : evidence, at: Date())
          await remember(book)
          count(job, outcome, took)
          await scheduler.onEvent(
            .ended(job: id, outcome: outcome, evidence: evidence, took: .seconds(took), again: again))
        case .shutdown:
          isEnding = true
          for (id, task) in running where jobs[id]?.schedule == .always { task.cancel() }
          let grace = scheduler.grace
          group.addTask {
            try await Task.sleep(for: grace.duration)
            return .graceIsOver
          }
        case .graceIsOver:
          for task in running.values { task.cancel() }
        }
      }
    }
  }

  private func perform(_ job: ScheduledJob) async -> Wake {
    do {
      let evidence =
        if job.schedule == .always {
          try await job.action.perform()
        } else {
          try await withTimeLimit(
            job.limit.duration, "the job '\(job.id)'", advice: "see why it hangs, or give it a longer limit"
          ) { try await job.action.perform() }
        }
      return .ended(job.id, Task.isCancelled ? .interrupted : .succeeded, evidence: evidence)
    } catch {
      if Task.isCancelled { return .ended(job.id, .interrupted, evidence: "it was told to end") }
      return .ended(job.id, .failed, evidence: DRError.text(of: error))
    }
  }

  /// Durable when it returns, unless it says that it is not.
  private func remember(_ book: ScheduleBook) async {
    do {
      try await withTimeLimit(.seconds(30), "the scheduler's tier") { try await store.write(book, lease) }
    } catch {
      guard !Task.isCancelled else { return }
      logger.error("what the scheduler remembers was not stored", metadata: ["error": "\(error)"])
      await scheduler.onEvent(.notStored(error: DRError.text(of: error)))
    }
  }

  private func count(_ job: ScheduledJob, _ outcome: ScheduleBook.Outcome, _ seconds: Double) {
    let dimensions = [("job", job.id), ("outcome", outcome.rawValue)]
    Counter(label: "disaster_recovery.scheduler.runs", dimensions: dimensions).increment()
    Metrics.Timer(label: "disaster_recovery.scheduler.duration", dimensions: [("job", job.id)])
      .recordNanoseconds(Int64(min(seconds, 9e8) * 1e9))
  }
}
