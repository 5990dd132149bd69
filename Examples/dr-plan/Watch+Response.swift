import DRCore
import DRPlan
import ExampleSupport
import Foundation
import Logging

/// What a watch does about an incident.
extension Watch {
  func open(
    _ opened: DetectionState.Opened, _ rule: DetectionRules.Incident, _ plan: Data, in folder: URL,
    _ known: IncidentFolder, _ waiting: AsyncStream<Waiting>.Continuation
  ) async {
    let name = "\(opened.incident)-\(Timestamp.compact(opened.opened))"
    let path = URL(fileURLWithPath: rule.plan, relativeTo: folder).path
    let command =
      ["dr-plan", "recover", path] + rule.set.sorted { $0.key < $1.key }.flatMap { ["--set", "\($0.key)=\($0.value)"] }
      + ["--execute", "--journal", known.journal(name), "--since", Timestamp.postgres(opened.began)]
      + (opened.lastWell == nil ? [] : ["--detected", Timestamp.postgres(opened.opened)]) + evidence.words
      + (evidence.notify == nil ? [] : ["--severity", opened.severity])
    let record = IncidentRecord(
      opened: opened, secondsToDetect: opened.timeToDetect?.seconds, go: askAlways ? .ask : rule.go, command: command,
      journal: known.journal(name))
    let seen = opened.symptoms.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; ")
    let within = opened.timeToDetect.map { "noticed within \($0)" } ?? "never seen to be well: since when is not known"
    Watch.say("INCIDENT \(opened.severity) \(opened.incident), \(within): \(seen)")
    // An incident goes on without its file.
    Watch.noting { try known.write(record, as: name) }
    await act(name, record, rule, plan, known, waiting)
  }

  /// What a watch before this one has left open.
  func goOn(
    with name: String, _ record: IncidentRecord, _ rule: DetectionRules.Incident, _ plan: Data, _ known: IncidentFolder,
    _ waiting: AsyncStream<Waiting>.Continuation
  ) async {
    Watch.say("INCIDENT \(record.opened.incident) is open since \(Timestamp.format(record.opened.opened))")
    guard let outcome = record.outcome else { return await act(name, record, rule, plan, known, waiting) }
    Watch.say("\(record.opened.incident): its plan was carried out before, \(outcome), and is not again")
  }

  /// Carries the plan out by its journal, or says how.
  private func act(
    _ name: String, _ record: IncidentRecord, _ rule: DetectionRules.Incident, _ plan: Data, _ known: IncidentFolder,
    _ waiting: AsyncStream<Waiting>.Continuation
  ) async {
    let opened = record.opened
    guard record.go == .auto, !askAlways else {
      let words = record.command.map {
        $0.allSatisfy(Watch.isPlain) ? $0 : "'\($0.replacing("'", with: "'\\''"))'"
      }
      let line = words.joined(separator: " ")
      Watch.say("waiting for a go: \(line)")
      waiting.yield(Waiting(name: name, record: record, command: line))
      return
    }
    let outcome: String?
    do {
      let evidence = try evidence.evidence(of: opened.incidentForPeople)
      let plan = try RecoveryPlan(json: plan, variables: rule.set, messages: evidence.messages) { _ in false }
      let logger = ProgramLog.make("dr-plan", verbose: false)
      var run = RecoveryRun(plan, journal: RecoveryJournal(at: record.journal))
      run.since = opened.began
      let report = try await evidence.recording(
        run, since: opened.began, detected: opened.lastWell == nil ? nil : opened.opened, logger
      ) {
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

  /// An incident whose plan waits for a person.
  struct Waiting: Sendable {
    var name: String
    var record: IncidentRecord
    var command: String
  }

  /// Tells people of incidents that wait for one of them, and calls in the next ones while nobody goes: until everything is well again, or
  /// somebody has begun the recovery, which tells of itself.
  func tell(of waiting: AsyncStream<Waiting>, _ notifier: Notifier, _ known: IncidentFolder) async {
    await withDiscardingTaskGroup { group in
      for await one in waiting {
        group.addTask {
          let incident = MutableBox(one.record.opened.incidentForPeople)
          incident.withLock { incident in
            if incident.systems.isEmpty { incident.systems = [one.record.opened.incident] }
            incident.action = "none yet: it waits for a go: \(one.command)"
          }
          do {
            try await notifier.accompany(.document, onDelivery: { Watch.say("\($0)") }, incident: { incident.value }) {
              while let record = known.open[one.name], record.closed == nil {
                if FileManager.default.fileExists(atPath: record.journal) { return }
                try await Task.sleep(for: .seconds(1))
              }
              incident.withLock { $0.resolve("everything is well again, and no plan was carried out") }
            }
          } catch {
            // The watch ends: the next one goes on.
          }
        }
      }
    }
  }

  static func noting(_ body: () throws -> Void) {
    do { try body() } catch { say("\(DRError.text(of: error))") }
  }

  private static func isPlain(_ character: Character) -> Bool {
    character.isLetter || character.isNumber || "-_./=:,@+".contains(character)
  }
}

extension DetectionState.Opened {
  /// What messages are made from.
  fileprivate var incidentForPeople: Incident {
    Incident(
      component.map { ["\($0)"] } ?? [], severity: Incident.Severity(rawValue: severity) ?? .critical, began: began)
  }
}

extension Incident {
  fileprivate mutating func resolve(_ what: String) {
    (resolved, summary, action) = (Date(), what, nil)
  }
}
