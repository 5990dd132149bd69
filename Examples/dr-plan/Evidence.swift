import DRCore
import DRPlan
import DRStorage
import ExampleSupport
import Foundation
import Logging
import PlatformSupport

/// What is kept and told of one recovery, however it ends: messages to people, a line in the audit trail, a report.
struct Evidence: Sendable {
  private let known: MutableBox<Incident>
  private let keeper: ReportKeeper?
  private let notifier: Notifier?
  private let lost = MutableBox(false)

  /// - Parameters:
  ///   - keeper: Of the report, beside which the audit trail is; nil: none is kept.
  ///   - notifier: Nil: nobody is told.
  init(of incident: Incident, keptBy keeper: ReportKeeper?, telling notifier: Notifier?) {
    known = MutableBox(incident)
    self.keeper = keeper
    self.notifier = notifier
  }

  /// Whether a report was to be kept, and was not.
  var isLost: Bool { lost.value }

  /// For the plan's own `notify` steps.
  var messages: PlanMessages { PlanMessages(over: notifier ?? Notifier([])) { [known] in known.value } }

  /// Carries a recovery out, by the body. A run that was cancelled, or failed, is recorded as one that passed.
  ///
  /// - Parameter detected: When the disaster was noticed, if that is known.
  func recording(
    _ run: RecoveryRun, since: Date, detected: Date?, _ logger: Logger,
    _ body: (RecoveryRun) async throws -> RecoveryReport
  ) async throws -> RecoveryReport {
    guard !run.isDryRun else { return try await body(run) }
    let trail = AuditTrail(by: .current(program: "dr-plan")) { [keeper] in
      guard let keeper else { throw CancellationError() }
      return try await TierPlace.open(keeper.history, creating: false)
    }
    var ended: RecoveryReport?
    do {
      return try await trail.record(
        "recover", object: run.plan.name, logger: logger, level: keeper == nil ? .debug : .warning
      ) { line in
        let report = try await telling(run, since: since, body)
        ended = report
        // Not cancelled with the run: how it ended belongs into the history.
        await Task { await keep(report, detected: detected, line) }.value
        if report.wasCancelled { throw CancellationError() }
        if report.verdict != .passed { throw NotPassed(verdict: report.verdict.rawValue, elapsed: report.elapsed) }
        return report
      }
    } catch {
      guard let ended else { throw error }
      return ended
    }
  }

  private func telling(
    _ run: RecoveryRun, since: Date, _ body: (RecoveryRun) async throws -> RecoveryReport
  ) async throws -> RecoveryReport {
    let systems = Set(run.plan.steps.compactMap(\.component)).map { "\($0)" }.sorted()
    known.withLock { incident in
      incident.began = since
      if incident.systems.isEmpty { incident.systems = systems.isEmpty ? [run.plan.name] : systems }
    }
    var run = run
    let (say, titles) = (run.onEvent, Dictionary(uniqueKeysWithValues: run.plan.steps.map { ($0.id, $0.title) }))
    run.onEvent = { [known] event in
      say(event)
      known.withLock { incident in
        switch event {
        case .started(let step, _): incident.action = titles[step]
        case .ended(let entry) where entry.outcome == .done:
          incident.actionsTaken.append(titles[entry.step] ?? entry.step)
        case .failed, .ended: break
        }
      }
    }
    guard let notifier else { return try await body(run) }
    let current: @Sendable () -> Incident = { [known] in known.value }
    let tell: @Sendable (Notifier.Delivery) -> Void = { FileHandle.standardError.write(Data("\($0)\n".utf8)) }
    return try await notifier.accompany(.document, onDelivery: tell, incident: current) {
      let report = try await body(run)
      known.withLock { $0.follow(report, now: Date()) }
      return report
    }
  }

  /// One that cannot be kept is said, and fails no recovery.
  private func keep(_ recovery: RecoveryReport, detected: Date?, _ line: AuditLine) async {
    guard let keeper else { return }
    do {
      let report = try RunReport(
        of: recovery, by: .current(program: "dr-plan"), detected: detected,
        decided: detected == nil ? nil : recovery.firstStep,
        phase: { $0.verifies ? .verification : .recovery })
      if recovery.isRepetition, let number = try await keeper.number(of: report) {
        line.concerns("\(recovery.plan.name), report \(number)")
        print("nothing was done now: it is report number \(number) in \(keeper.history)")
        return
      }
      let kept = try await keeper.keep(report)
      line.concerns("\(recovery.plan.name), report \(kept.number)")
      print(kept.line)
    } catch {
      lost.withLock { $0 = true }
      let text =
        "error: the report was not kept in \(keeper.history): \(DRError.text(of: error)); the same command keeps it\n"
      FileHandle.standardError.write(Data(text.utf8))
    }
  }
}

/// For the audit trail.
private struct NotPassed: Error, CustomStringConvertible {
  var verdict: String
  var elapsed: Span

  var description: String { "\(verdict) after \(elapsed)" }
}
