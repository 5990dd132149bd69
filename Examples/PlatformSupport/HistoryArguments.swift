public import ArgumentParser
import DRCore
public import DRPlan
import DRStorage
import ExampleSupport
import Foundation

/// Where a program keeps the report of what it did, and with which key it signs it.
public struct HistoryArguments: ParsableArguments, Sendable {
  @Option(help: "Keep the report in this tier's history: a folder or s3://bucket/prefix.")
  public var history: String?

  @Option(
    help:
      "Sign the report with this Ed25519 key: a PEM file that only you can read, or env:NAME for one in the environment."
  )
  public var signKey: String?

  public init() {}

  public func validate() throws {
    guard signKey == nil || history != nil else { throw ValidationError("--sign-key needs --history") }
  }

  /// For a command that is to keep the same, wherever it is run.
  public var words: [String] {
    (history.map { ["--history", TierPlace.isBucket($0) ? $0 : $0.absolutePath] } ?? [])
      + (signKey.map { ["--sign-key", $0.hasPrefix("env:") ? $0 : $0.absolutePath] } ?? [])
  }

  /// Read before anything is done: an unusable key must not be found out afterwards. Nil: no report is kept.
  ///
  /// - Throws: ``DRError`` of the key.
  public func keeper() throws -> ReportKeeper? {
    let key = try signKey.map { text in
      text.hasPrefix("env:")
        ? try ReportSigningKey(environment: String(text.dropFirst(4))) : try ReportSigningKey(file: text)
    }
    return history.map { ReportKeeper(in: $0, signedBy: key) }
  }
}

/// Keeps reports in a repository's history.
public struct ReportKeeper: Sendable {
  public let history: String
  private let key: ReportSigningKey?

  public init(in history: String, signedBy key: ReportSigningKey?) {
    self.history = history
    self.key = key
  }

  /// The number of a report of the same run, if it is there.
  ///
  /// - Throws: As ``keep(_:)``.
  public func number(of report: RunReport) async throws -> Int? {
    try await withTimeLimit(.seconds(120), "looking for the report") { [history] in
      let tier = try await TierPlace.open(history, creating: false)
      return try await ReportHistory(on: tier).entries().last { entry in
        guard let kept = entry.report else { return false }
        // As precise as it is stored.
        return kept.kind == report.kind && kept.plan == report.plan
          && abs(kept.ended.timeIntervalSince(report.ended)) < 0.001
      }?.number
    }
  }

  /// Adds the report to the history. Durable when it returns.
  ///
  /// - Returns: Its number, and a line that says it.
  /// - Throws: ``DRError``: `timedOut` after two minutes; what the tier throws.
  public func keep(_ report: RunReport) async throws -> (number: Int, line: String) {
    let (kept, place) = try await withTimeLimit(.seconds(120), "keeping the report") { [history, key] in
      let tier = try await TierPlace.open(history, creating: false)
      return (try await ReportHistory(on: tier).append(report, signedBy: key), tier.place)
    }
    let number = kept.number ?? 0
    let signature = key == nil ? "not signed" : "signed"
    return (number, "report number \(number) is in \(place), \(signature): \(kept.sentence)")
  }
}

extension String {
  /// Of a path.
  public var absolutePath: String { URL(fileURLWithPath: self).path }
}
