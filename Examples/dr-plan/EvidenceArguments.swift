import ArgumentParser
import DRCore
import DRPlan
import DRStorage
import ExampleSupport
import Foundation
import Logging

/// What becomes of what was seen: a signed report in a repository, and messages to people.
struct EvidenceArguments: ParsableArguments {
  @Option(help: "Keep the report in this tier's history: a folder or s3://bucket/prefix.")
  var history: String?

  @Option(
    help:
      "Sign the report with this Ed25519 key: a PEM file that only you can read, or env:NAME for one in the environment."
  )
  var signKey: String?

  @Option(help: "Tell people over the channels of this JSON file: webhooks, mail, files.", completion: .file())
  var notify: String?

  @Option(help: "For the messages: P1, P2 or P3.")
  var severity = Incident.Severity.critical.rawValue

  func validate() throws {
    guard signKey == nil || history != nil else { throw ValidationError("--sign-key needs --history") }
    guard Incident.Severity(rawValue: severity) != nil else { throw ValidationError("--severity is P1, P2 or P3") }
  }

  /// Read before anything is done: an unusable key must not be found out afterwards.
  func key() throws -> ReportSigningKey? {
    try signKey.map { text in
      text.hasPrefix("env:")
        ? try ReportSigningKey(environment: String(text.dropFirst(4))) : try ReportSigningKey(file: text)
    }
  }

  /// - Returns: Nil: nobody is to be told.
  func notifier() throws -> Notifier? {
    guard let notify else { return nil }
    do {
      return try Notifier(json: Data(contentsOf: URL(fileURLWithPath: notify)), object: notify)
    } catch let error as DRError {
      throw error
    } catch {
      throw DRError(.invalidConfiguration, "the channels cannot be read", object: notify, cause: error)
    }
  }

  /// Runs a recovery, and tells people of it meanwhile.
  func telling(
    _ run: RecoveryRun, since: Date, _ body: (RecoveryRun) async throws -> RecoveryReport
  ) async throws -> RecoveryReport {
    guard let notifier = try notifier(), !run.isDryRun else { return try await body(run) }
    let systems = Set(run.plan.steps.compactMap(\.component)).map { "\($0)" }.sorted()
    let known = MutableBox(
      Incident(
        systems.isEmpty ? [run.plan.name] : systems, severity: Incident.Severity(rawValue: severity) ?? .critical,
        began: since))
    var run = run
    let (say, titles) = (run.onEvent, Dictionary(uniqueKeysWithValues: run.plan.steps.map { ($0.id, $0.title) }))
    run.onEvent = { event in
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
    let tell: @Sendable (Notifier.Delivery) -> Void = { FileHandle.standardError.write(Data("\($0)\n".utf8)) }
    let current: @Sendable () -> Incident = { known.value }
    return try await notifier.accompany(.document, onDelivery: tell, incident: current) {
      let report = try await body(run)
      known.withLock { $0.follow(report, now: Date()) }
      return report
    }
  }

  /// A step named `verify`, or `verify-…`, is the verification.
  private static func phase(of step: RecoveryPlan.Step) -> RunReport.Phase.Kind {
    step.id == "verify" || step.id.hasPrefix("verify-") ? .verification : .recovery
  }

  /// Keeps the report. One that cannot be kept is said, and fails no recovery.
  func keep(_ recovery: RecoveryReport, _ key: ReportSigningKey?) async {
    guard let history else { return }
    do {
      let report = try RunReport(of: recovery, by: .current(program: "dr-plan"), phase: EvidenceArguments.phase)
      let tier = try await TierPlace.open(history, creating: false)
      let kept = try await ReportHistory(on: tier).append(report, signedBy: key)
      print(
        "report number \(kept.number ?? 0) is in \(tier.place)\(key == nil ? ", not signed" : ", signed"): \(kept.sentence)"
      )
    } catch {
      FileHandle.standardError.write(Data("warning: the report was not kept: \(DRError.text(of: error))\n".utf8))
    }
  }
}
