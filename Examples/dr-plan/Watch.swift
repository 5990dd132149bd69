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
      --incidents, with what was seen, the time to detect, and the command that recovers; it is open until everything is well again, and a watch that \
      is begun again goes on with it. A rule that says "go": "auto" is carried out at once, \
      its journal beside, and kept as by 'recover' (--history, --sign-key, --notify) with the time to detect; the others wait for somebody to run that \
      command, and --notify tells people so, the next ones as time goes by.
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

  func validate() throws {
    guard evidence.severity == nil else {
      throw ValidationError("--severity is for recover: here an incident has its own")
    }
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
      let notifier = try evidence.notifier()
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
      let known = try await IncidentFolder(incidents) {
        Watch.say("waiting: another watch works in \(incidents)")
      }
      Watch.say("watching: \(read.probes.count) probes, \(read.incidents.count) incidents")
      let logger = ProgramLog.make("dr-plan", verbose: false)
      let (waiting, waits) = AsyncStream<Waiting>.makeStream()
      var detector = Detector(
        read, logger: logger,
        onLook: { [verbose] probe, failed, evidence in
          if verbose || failed { Watch.say("\(probe): \(failed ? "FAILED: " : "")\(evidence)") }
        },
        onIncident: { [self, plans] opened in
          guard let rule = read.incidents.first(where: { $0.name == opened.incident }) else { return }
          await open(opened, rule, plans[rule.name] ?? Data(), in: folder, known, waits)
        })
      detector.open = Set(known.open.values.map(\.opened.incident))
      detector.onClosed = { incident in
        for (name, record) in known.open where record.opened.incident == incident {
          Watch.say("\(incident): everything that it is by is well again")
          Watch.noting { try known.update(name) { $0.closed = Date() } }
        }
      }
      let goingOn = GoingOn { [self, plans] in
        await withTaskGroup(of: Void.self) { group in
          for (name, record) in known.open {
            guard let rule = read.incidents.first(where: { $0.name == record.opened.incident }) else { continue }
            group.addTask { await goOn(with: name, record, rule, plans[rule.name] ?? Data(), known, waits) }
          }
        }
      }
      let telling = GoingOn { [self] in
        if let notifier { await tell(of: waiting, notifier, known) }
      }
      try await ServiceGroup(
        services: [detector, goingOn, telling], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger
      ).run()
    }
  }

  static func say(_ line: String) {
    print("\(Timestamp.format(Date())) \(line)")
    fflush(nil)
  }
}

/// Something that is done once, beside a service that goes on.
private struct GoingOn: Service {
  var body: @Sendable () async -> Void

  func run() async throws {
    await cancelWhenGracefulShutdown { await body() }
    // A service that ends would end the others.
    try? await gracefulShutdown()
  }
}
