import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport
import Foundation

/// Says which backup is where, and how far the change logs go there.
struct Status: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says which backup is on which tier, when it was verified, and how far the change logs go there.",
    discussion: """
      The first tier is the repository, the others are its copies. Exit code 1 if a copy is absent, torn or too far behind \
      (--max-lag-hours), if a log has a hole or is absent, if a backup goes on from one that is not there, if the newest one is on \
      a copy alone, or if a manifest cannot be read; 2 if a tier cannot be reached. Warnings alone end with 0. Nothing is written, \
      and no content is read.
      """)

  @OptionGroup var common: CommonArguments

  @Option(name: .customLong("tier"), help: "A tier, the repository first; give it once for each.")
  var tiers: [String]

  @Option(parsing: .unconditional, help: "For how many hours a copy may lack what the repository has.")
  var maxLagHours = 2.0

  @Flag(help: "As JSON.")
  var json = false

  func validate() throws {
    try allow("--max-lag-hours", maxLagHours, 0...87_600)
  }

  func run() async throws {
    try await reporting {
      try TierPlace.refuseSame(tiers)
      var repositories: [Repository] = []
      var unreachable: [(tier: String, error: DRError)] = []
      // Without the repository there is nothing to compare the copies with.
      var isCompared = true
      for (index, place) in tiers.enumerated() {
        do {
          repositories.append(try await common.repository(place, probing: .reading))
        } catch let error as DRError {
          unreachable.append((place, error))
          if index == 0 { isCompared = false }
        }
      }
      let status = await ReplicationStatus.of(repositories, component: try common.only())
      unreachable += status.unreachable.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
      let now = Date()
      let findings = isCompared ? status.findings(lag: .seconds(maxLagHours * 3600), now: now) : []
      let report = StatusReport(status, findings: findings, unreachable: unreachable, now: now)
      print(json ? try report.json() : report.text)
      if !unreachable.isEmpty { throw ExitCode(2) }
      if findings.contains(where: { $0.severity == .failure }) { throw ExitCode(1) }
    }
  }
}
