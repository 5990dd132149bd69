import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import PlatformSupport

/// What becomes of what a recovery did: a signed report in a repository, and messages to people.
struct EvidenceArguments: ParsableArguments {
  @OptionGroup var kept: HistoryArguments

  @Option(help: "Tell people over the channels of this JSON file: webhooks, mail, files.", completion: .file())
  var notify: String?

  @Option(help: "For the messages: P1, P2 or P3; P1 unless said.")
  var severity: String?

  func validate() throws {
    guard severity.map({ Incident.Severity(rawValue: $0) != nil }) ?? true else {
      throw ValidationError("--severity is P1, P2 or P3")
    }
  }

  /// Read before anything is done: an unusable key, or channels that are not right, must not be found out afterwards.
  ///
  /// - Parameter incident: What is known of it; nil: what the options say, from now on.
  func evidence(of incident: Incident? = nil) throws -> Evidence {
    let known =
      incident
      ?? Incident([], severity: severity.flatMap { Incident.Severity(rawValue: $0) } ?? .critical, began: Date())
    return Evidence(of: known, keptBy: try kept.keeper(), telling: try notifier())
  }

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

  /// For a command that is to keep the same.
  var words: [String] {
    kept.words + (notify.map { ["--notify", $0.absolutePath] } ?? [])
  }
}
