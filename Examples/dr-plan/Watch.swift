import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport
import ServiceLifecycle

/// Looks for disasters, and opens an incident with its plan chosen.
struct Watch: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Looks for disasters by rules, and opens an incident for each, with its recovery plan chosen, until SIGTERM or SIGINT.",
    discussion: """
      The rules are a JSON file, which may have comments: probes with limits, and which of them make an incident. An incident is a file in \
      --incidents, with what was seen, the time to detect, and the command that recovers. A rule that says "go": "auto" is carried out at once, \
      its journal beside, and kept as by 'recover' (--history, --sign-key, --notify) with the time to detect; the others wait for somebody to run that \
      command.
      """)

  @Argument(help: "The rules, as JSON.", completion: .file())
  var rules: String

  @Option(help: "A folder for incidents and journals.", completion: .directory)
  var incidents: String

  @Flag(help: "Carry out no plan, whatever the rules say.")
  var askAlways = false

  @Flag(name: .shortAndLong, help: "Say every look.")
  var verbose = false

  @OptionGroup var evidence: EvidenceArguments

  /// What an incident's file holds.
  private struct Noted: Codable {
    var opened: DetectionState.Opened
    var secondsToDetect: Double
    var go: DetectionRules.Incident.Go
    var command: [String]
    var journal: String
    var outcome: String?
  }

  func run() async throws {
    try await reporting {
      ProgramFolder.lead()
      let read: DetectionRules
      do {
        read = try DetectionRules(json: Data(contentsOf: URL(fileURLWithPath: rules)))
      } catch let error as DRError {
        throw error
      } catch {
        throw DRError(.invalidConfiguration, "the rules cannot be read", object: rules, cause: error)
      }
      _ = try evidence.evidence()
      let folder = URL(fileURLWithPath: rules).deletingLastPathComponent()
      var plans: [String: Data] = [:]
      for rule in read.incidents {
        let path = URL(fileURLWithPath: rule.plan, relativeTo: folder).path
        do {
          plans[rule.name] = try Data(contentsOf: URL(fileURLWithPath: path))
          _ = try RecoveryPlan(json: plans[rule.name] ?? Data(), variables: rule.set) { _ in false }
        } catch {
          throw DRError(
            .invalidConfiguration, "the plan of the incident '\(rule.name)' is not right: \(DRError.text(of: error))",
            object: path)
        }
      }
      try FileManager.default.createDirectory(atPath: incidents, withIntermediateDirectories: true)
      Watch.say("watching: \(read.probes.count) probes, \(read.incidents.count) incidents")
      let logger = ProgramLog.make("dr-plan", verbose: false)
      let detector = Detector(
        read, logger: logger,
        onLook: { [verbose] probe, failed, evidence in
          if verbose || failed { Watch.say("\(probe): \(failed ? "FAILED: " : "")\(evidence)") }
        },
        onIncident: { [self, plans] opened in
          guard let rule = read.incidents.first(where: { $0.name == opened.incident }) else { return }
          await open(opened, rule, plans[rule.name] ?? Data(), in: folder)
        })
      try await ServiceGroup(
        services: [detector], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger
      ).run()
    }
  }

  private func open(
    _ opened: DetectionState.Opened, _ rule: DetectionRules.Incident, _ plan: Data, in folder: URL
  ) async {
    let stem = "\(incidents)/\(opened.incident)-\(Timestamp.compact(opened.opened))"
    let path = URL(fileURLWithPath: rule.plan, relativeTo: folder).path
    let command =
      ["dr-plan", "recover", path] + rule.set.sorted { $0.key < $1.key }.flatMap { ["--set", "\($0.key)=\($0.value)"] }
      + ["--execute", "--journal", "\(stem).journal", "--since", Timestamp.postgres(opened.began)]
      + ["--detected", Timestamp.postgres(opened.opened)] + evidence.words
    var incident = Noted(
      opened: opened, secondsToDetect: opened.timeToDetect.seconds, go: askAlways ? .ask : rule.go, command: command,
      journal: "\(stem).journal")
    write(incident, to: "\(stem).json")
    let seen = opened.symptoms.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; ")
    Watch.say("INCIDENT \(opened.severity) \(opened.incident), noticed within \(opened.timeToDetect): \(seen)")
    guard incident.go == .auto else {
      let words = command.map { $0.allSatisfy(Watch.isPlain) ? $0 : "'\($0.replacing("'", with: "'\\''"))'" }
      Watch.say("waiting for a go: \(words.joined(separator: " "))")
      return
    }
    do {
      let severity = Incident.Severity(rawValue: opened.severity) ?? .critical
      let evidence = try evidence.evidence(
        of: Incident(opened.component.map { ["\($0)"] } ?? [], severity: severity, began: opened.began))
      let plan = try RecoveryPlan(json: plan, variables: rule.set, messages: evidence.messages) { _ in false }
      let logger = ProgramLog.make("dr-plan", verbose: false)
      var run = RecoveryRun(plan, journal: RecoveryJournal(at: incident.journal))
      run.since = opened.began
      let report = try await evidence.recording(run, since: opened.began, detected: opened.opened, logger) {
        try await $0.run(logger: logger)
      }
      for finding in report.findings { Watch.say("\(finding)") }
      incident.outcome = "\(report.verdict.rawValue) after \(report.elapsed)"
    } catch {
      incident.outcome = "could not be carried out: \(DRError.text(of: error))"
    }
    write(incident, to: "\(stem).json")
    Watch.say("\(opened.incident): \(incident.outcome ?? "")")
  }

  private static func isPlain(_ character: Character) -> Bool {
    character.isLetter || character.isNumber || "-_./=:,@+".contains(character)
  }

  private func write(_ incident: Noted, to path: String) {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      try encoder.encode(incident).write(to: URL(fileURLWithPath: path), options: .atomic)
      chmod(path, 0o600)
    } catch {
      // The incident goes on without its file.
      Watch.say("the incident's file was not written: \(error)")
    }
  }

  private static func say(_ line: String) {
    print("\(Timestamp.format(Date())) \(line)")
    fflush(nil)
  }
}
