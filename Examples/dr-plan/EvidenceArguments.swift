import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation

/// What becomes of what a recovery did: a signed report in a repository, and messages to people.
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

  /// Read before anything is done: an unusable key, or channels that are not right, must not be found out afterwards.
  ///
  /// - Parameter incident: What is known of it; nil: what the options say, from now on.
  func evidence(of incident: Incident? = nil) throws -> Evidence {
    let known = incident ?? Incident([], severity: Incident.Severity(rawValue: severity) ?? .critical, began: Date())
    let key = try signKey.map { text in
      text.hasPrefix("env:")
        ? try ReportSigningKey(environment: String(text.dropFirst(4))) : try ReportSigningKey(file: text)
    }
    return Evidence(of: known, in: history, signedBy: key, telling: try notifier())
  }

  private func notifier() throws -> Notifier? {
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
    (history.map { ["--history", $0] } ?? []) + (signKey.map { ["--sign-key", $0] } ?? [])
      + (notify.map { ["--notify", $0] } ?? [])
  }
}
