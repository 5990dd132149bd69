import ArgumentParser
import DRCore
import DRVerify
import ExampleSupport
import Logging

/// Sees that the verifications fail on what is damaged.
struct NegativeControlCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "negative-control",
    abstract: "Damages copies in five ways, and fails unless the same verification notices each.",
    discussion: """
      A flipped byte of any component; a missing WAL segment and a removed row of PostgreSQL, a truncated RDB of Redis, a lost message of \
      RabbitMQ. The repository is only read, and servers are sandboxes. A kind of damage for which no component is named is not checked.
      """)

  @Option(name: .customLong("config"), help: "A component's configuration file; give it once for each component.")
  var configs: [String]

  @Option(parsing: .unconditional, help: "Chooses the byte that is flipped.")
  var seed: UInt64 = 1

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  @OptionGroup var reporting: ReportArguments

  func run() async throws {
    try await ExampleSupport.reporting {
      let report = try await endingInGoodOrder(saying: "the sandboxes were removed") { await control() }
      try reporting.give(report)
    }
  }

  private func control() async -> VerificationReport {
    let logger = ProgramLog.make("dr-verify", verbose: verbose)
    let start = ContinuousClock.now
    var findings: [Finding] = []
    for config in configs {
      do {
        findings += try await DamagedComponent(RepositoryConfiguration(file: config), seed, logger).findings()
      } catch {
        findings.append(Finding("negative-control", .couldNotVerify, subject: config, evidence: "\(error)"))
      }
    }
    for damage in NegativeControl.Damage.allCases
    where !findings.contains(where: { $0.subject.hasPrefix(damage.rawValue) }) {
      findings.append(
        Finding(
          "negative-control", .notChecked, subject: damage.rawValue, evidence: "no component of its kind was named"))
    }
    return VerificationReport(subject: "negative control", findings: findings, duration: start.duration(to: .now))
  }
}
