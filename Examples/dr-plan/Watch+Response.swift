import DRCore
import DRPlan
import ExampleSupport
import Foundation
import Logging

/// What a watch does about an incident.
extension Watch {
  func open(
    _ opened: DetectionState.Opened, _ rule: DetectionRules.Incident, _ plan: Data, in folder: URL,
    _ known: IncidentFolder
  ) async {
    let name = "\(opened.incident)-\(Timestamp.compact(opened.opened))"
    let path = URL(fileURLWithPath: rule.plan, relativeTo: folder).path
    let command =
      ["dr-plan", "recover", path] + rule.set.sorted { $0.key < $1.key }.flatMap { ["--set", "\($0.key)=\($0.value)"] }
      + ["--execute", "--journal", known.journal(name), "--since", Timestamp.postgres(opened.began)]
      + ["--detected", Timestamp.postgres(opened.opened)] + evidence.words
    let record = IncidentRecord(
      opened: opened, secondsToDetect: opened.timeToDetect.seconds, go: askAlways ? .ask : rule.go, command: command,
      journal: known.journal(name))
    let seen = opened.symptoms.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; ")
    Watch.say("INCIDENT \(opened.severity) \(opened.incident), noticed within \(opened.timeToDetect): \(seen)")
    // An incident goes on without its file.
    Watch.noting { try known.write(record, as: name) }
    await act(name, record, rule, plan, known)
  }

  /// What a watch before this one has left open.
  func goOn(
    with name: String, _ record: IncidentRecord, _ rule: DetectionRules.Incident, _ plan: Data, _ known: IncidentFolder
  ) async {
    Watch.say("INCIDENT \(record.opened.incident) is open since \(Timestamp.format(record.opened.opened))")
    guard let outcome = record.outcome else { return await act(name, record, rule, plan, known) }
    Watch.say("\(record.opened.incident): its plan was carried out before, \(outcome), and is not again")
  }

  /// Carries the plan out by its journal, or says how.
  private func act(
    _ name: String, _ record: IncidentRecord, _ rule: DetectionRules.Incident, _ plan: Data, _ known: IncidentFolder
  ) async {
    let opened = record.opened
    guard record.go == .auto, !askAlways else {
      let words = record.command.map {
        $0.allSatisfy(Watch.isPlain) ? $0 : "'\($0.replacing("'", with: "'\\''"))'"
      }
      Watch.say("waiting for a go: \(words.joined(separator: " "))")
      return
    }
    let outcome: String?
    do {
      let severity = Incident.Severity(rawValue: opened.severity) ?? .critical
      let evidence = try evidence.evidence(
        of: Incident(opened.component.map { ["\($0)"] } ?? [], severity: severity, began: opened.began))
      let plan = try RecoveryPlan(json: plan, variables: rule.set, messages: evidence.messages) { _ in false }
      let logger = ProgramLog.make("dr-plan", verbose: false)
      var run = RecoveryRun(plan, journal: RecoveryJournal(at: record.journal))
      run.since = opened.began
      let report = try await evidence.recording(run, since: opened.began, detected: opened.opened, logger) {
        try await $0.run(logger: logger)
      }
      for finding in report.findings { Watch.say("\(finding)") }
      let text = "\(report.verdict.rawValue) after \(report.elapsed)"
      // One that was ended with its watch goes on with the next one.
      outcome = report.wasCancelled ? nil : text
      Watch.say("\(opened.incident): \(text)")
    } catch {
      let text = "could not be carried out: \(DRError.text(of: error))"
      outcome = Task.isCancelled ? nil : text
      Watch.say("\(opened.incident): \(text)")
    }
    Watch.noting { try known.update(name) { $0.outcome = outcome } }
  }

  static func noting(_ body: () throws -> Void) {
    do { try body() } catch { say("\(DRError.text(of: error))") }
  }

  private static func isPlain(_ character: Character) -> Bool {
    character.isLetter || character.isNumber || "-_./=:,@+".contains(character)
  }
}
