import ArgumentParser
import DRCore
import DRPlan
import DRStorage
import ExampleSupport
import Foundation
import PlatformSupport

/// What is known of earlier runs.
struct History: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the reports of a repository, says where each plan stands, and the key figures.",
    discussion: """
      A plan is never drilled, failing, void (it was changed since it passed: name the plan as it is now), stale or verified. A key figure for which \
      nothing was recorded is 'no data', never met. Exit code 1 if a plan is not verified, or a figure is missed.
      """)

  @Argument(help: "Recovery plans as they are now, as JSON.", completion: .file(extensions: ["json"]))
  var plans: [String] = []

  @Option(help: "The tier of the repository.")
  var history: String

  @Option(
    name: .customLong("copy"),
    help: "A copy of the repository, of which the figures say what arrived there; once for each.")
  var copies: [String] = []

  @Option(help: "How long a copy may lack what the repository has: 2h.")
  var lag = "2h"

  @Option(
    help: "The retention, as of dr-repository prune, against which what is kept is held.",
    completion: .file(extensions: ["json"]))
  var policy: String?

  @Option(help: "For how long a run that passed counts: 35d.")
  var age = "35d"

  @Option(help: "What the figures look back on: 30d.")
  var period = "30d"

  @Flag(help: "As JSON.")
  var json = false

  private struct Answer: Encodable {
    struct Run: Encodable {
      var number: Int
      var signed: Bool
      var sentence: String
    }

    var runs: [Run]
    var plans: [String: String]
    var figures: [KeyFigure]
  }

  func run() async throws {
    try await reporting {
      let (age, period, lag) = try usage { (try Span(self.age), try Span(self.period), try Span(self.lag)) }
      try TierPlace.refuseSame([history] + copies)
      let tier = try await TierPlace.open(history, creating: false, probing: .reading)
      let entries = try await ReportHistory(on: tier).entries()
      let reports = entries.compactMap(\.report)
      let repository = Repository(tier: tier)
      let now = Date()
      var known = KeyFigures(
        reports: reports, backups: try await repository.catalog().backups,
        operations: try await AuditTrail.read(on: tier).records, period: period, now: now)
      known.copies = try await compared(repository, lag, now)
      if let policy {
        known.retained = try await .retained(
          in: repository, by: try RetentionPolicy(file: policy), operations: known.operations, now: now)
      }
      let figures = known.all
      let standings = try plans.map { file in
        let plan = try RunReport.Plan(file: file)
        return (plan: plan.name, standing: PlanStanding.of(plan, in: reports, for: age, now: now))
      }
      if json {
        let runs = entries.map {
          Answer.Run(number: $0.number, signed: $0.isSigned, sentence: $0.report?.sentence ?? "it cannot be read")
        }
        let answer = Answer(
          runs: runs, plans: Dictionary(standings.map { ($0.plan, $0.standing.name) }) { $1 }, figures: figures)
        print(try JSONOutput.text(answer))
      } else {
        for entry in entries {
          let report =
            entry.report.map { "\($0.kind.rawValue) of \($0.plan.name): \($0.sentence)" } ?? "it cannot be read"
          print("\(entry.number)\(entry.isSigned ? "" : " (not signed)"): \(report)")
        }
        for (plan, standing) in standings { print("\(plan): \(standing)") }
        for figure in figures {
          print("\(figure.state.rawValue): \(figure.title): \(figure.value ?? "-") (\(figure.target)); \(figure.basis)")
        }
      }
      let isBad = standings.contains { !$0.standing.isVerified } || figures.contains { $0.state == .missed }
      if isBad || reports.count < entries.count { throw ExitCode(1) }
    }
  }

  /// A copy that cannot be reached has nothing.
  private func compared(_ repository: Repository, _ lag: Span, _ now: Date) async throws -> KeyFigures.Share? {
    guard !copies.isEmpty else { return nil }
    var there: [Repository] = []
    for copy in copies {
      do {
        there.append(Repository(tier: try await TierPlace.open(copy, creating: false, probing: .reading)))
      } catch let error as DRError {
        FileHandle.standardError.write(Data("warning: a copy was not looked at: \(DRError.text(of: error))\n".utf8))
      }
    }
    return .copies(
      await ReplicationStatus.of([repository] + there), unreachable: copies.count - there.count, lag: lag, now: now)
  }
}
