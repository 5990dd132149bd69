import ArgumentParser
import DRCore
import DRPlan
import ExampleSupport
import Foundation
import Logging
import PlatformSupport

/// Destroys servers of its own under load, brings them back to one moment, and proves what came back.
@main
struct DrillCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-drill",
    abstract: "Destroys servers of its own under load, brings them back to one moment, and proves what came back.",
    discussion: """
      \(ProgramExit.codes(
        done: "everything came back as it should and within the targets", wrong: "it did not", failed: "the drill could not run"))
      It starts its own servers and touches no other. One that was killed after its disaster goes on with --resume and the folder that it said at \
      its start: what was done is not repeated, and the time in which it was dead counts. Such a folder is kept for a day; the next drill after \
      that removes it.
      """)

  @Option(
    name: .customLong("system"), parsing: .upToNextOption,
    help: "Which systems to destroy: \(DrillSystems.allCases.map(\.rawValue).joined(separator: ", ")). Default: all.")
  var systems = DrillSystems.allCases

  @Option(help: "How much data to fill PostgreSQL with: bytes, or with kB, MB, GB.")
  var size = ByteCount(200_000_000)

  @Option(parsing: .unconditional, help: "How many connections write the ledger.")
  var connections = 4

  @Option(
    parsing: .unconditional,
    help: "Seconds of writing before the backup ends, before the target, and before the disaster, each.")
  var seconds = 3.0

  @Option(
    parsing: .unconditional,
    help: "Makes the data, and where the damage is, repeatable. Commits and their times are not.")
  var seed: UInt64 = 1

  @Option(
    parsing: .unconditional,
    help:
      "Seconds from the kill to the first right answer that are allowed, for every system; else each has the plan's.")
  var rtoTarget: Double?

  @Option(
    parsing: .unconditional,
    help: "Seconds of confirmed changes that may be lost, for every system; else each has the plan's.")
  var rpoTarget: Double?

  @Option(parsing: .unconditional, help: "Seconds between two stores of the last, partial WAL segment.")
  var partialInterval = 1.0

  @Option(
    help: """
      A second tier, s3://bucket/prefix, to which the repository is copied while it grows. The disaster then takes the \
      first one too, and everything is restored from here. Endpoint and credentials are found as the AWS tools find them.
      """)
  var tier: String?

  @Option(
    parsing: .unconditional,
    help:
      "Ask on the terminal whether to recover, and wait so many seconds for an answer; by policy, at once, unless given."
  )
  var ask: Double?

  @Option(help: "Go on with the drill that was killed and has this folder.", completion: .directory)
  var resume: String?

  @Flag(inversion: .prefixedNo, help: "Encrypt to a key made for this drill.")
  var encrypt = true

  @Flag(help: "Leave the repository, and print the stock commands that open it.")
  var keep = false

  @Option(
    help: "A folder for the report: JSON, Markdown, and one HTML page with the timeline.", completion: .directory)
  var report: String?

  @Option(
    help: "Sign the report with this Ed25519 key (PEM, as openssl genpkey makes it); dr-verify report checks it.",
    completion: .file())
  var signingKey: String?

  @Option(
    help: "Also keep the report in this tier's history, signed with the same key: a folder or s3://bucket/prefix.")
  var history: String?

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  func validate() throws {
    guard (1...64).contains(connections) else { throw ValidationError("--connections must be 1 to 64") }
    guard size.bytes >= 1_000_000 else { throw ValidationError("--size must be at least 1MB") }
    guard (0.5...3600).contains(seconds) else { throw ValidationError("--seconds must be 0.5 to 3600") }
    guard tier.map(TierPlace.isBucket) ?? true else { throw ValidationError("--tier is s3://bucket/prefix") }
    guard signingKey == nil || report != nil || history != nil else {
      throw ValidationError("--signing-key goes with --report or --history")
    }
    guard partialInterval > 0, rtoTarget ?? 1 > 0, rpoTarget ?? 1 > 0 else {
      throw ValidationError("targets and intervals must be more than 0")
    }
    guard (1...86_400).contains(ask ?? 1) else { throw ValidationError("--ask must be 1 to 86400 seconds") }
    let isSettled = try resume == nil || options == DrillCommand.parse([]).options
    guard isSettled else {
      throw ValidationError(
        "--resume goes with --report, --history, --signing-key, --keep and --verbose alone: all else was settled when the drill began"
      )
    }
  }

  private var options: DrillOptions {
    DrillOptions(
      systems: DrillSystems.allCases.filter(systems.contains), size: size.bytes, connections: connections,
      seconds: seconds, seed: seed, rtoTarget: rtoTarget, rpoTarget: rpoTarget, partialInterval: partialInterval,
      tier: tier, encrypt: encrypt, ask: ask)
  }

  func run() async throws {
    try await reporting {
      // Looked at before anything is done: an unusable key, or place, must not be found out afterwards.
      let key = try signingKey.map { try ReportSigningKey(file: $0) }
      let logger = ProgramLog.make("dr-drill", verbose: verbose)
      if let folder = self.report { try DrillEvidence.prepare(folder) }
      if let history { _ = try await TierPlace.open(history, creating: false) }
      let drill =
        if let resume {
          try await Drill(resuming: resume, keeping: keep, logger: logger)
        } else {
          try await Drill(options, keeping: keep, logger: logger)
        }
      // Ctrl-C ends the drill in good order: its servers and folders go.
      let report = try await endingInGoodOrder(
        saying: keep ? "its servers are gone, its folder is kept" : "its servers and folders are gone"
      ) {
        try await drill.perform()
      }
      let evidence = try DrillEvidence.report(of: report)
      report.print(evidence)
      if let folder = self.report {
        print("Report: \(try DrillEvidence.write(evidence, to: folder, signedBy: key)).html")
      }
      if let history { print(try await ReportKeeper(in: history, signedBy: key).keep(evidence).line) }
      try drill.leave(report)
      if evidence.verdict != .passed { throw ExitCode(evidence.verdict.exitCode) }
    }
  }
}

extension DrillSystems: ExpressibleByArgument {}

/// A number of bytes as people write it: `200MB`, `2GB`, `1500000`.
struct ByteCount: ExpressibleByArgument, CustomStringConvertible {
  var bytes: Int64

  init(_ bytes: Int64) { self.bytes = bytes }

  init?(argument: String) {
    let digits = argument.prefix { $0.isNumber || $0 == "." }
    let units: [String: Double] = [
      "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024, "mib": 1_048_576, "gib": 1_073_741_824,
    ]
    let unit = argument.dropFirst(digits.count).trimmingCharacters(in: .whitespaces).lowercased()
    guard let number = Double(digits), let factor = units[unit], number * factor < 1e15 else { return nil }
    bytes = Int64(number * factor)
  }

  var description: String { Format.bytes(bytes).replacing(" ", with: "") }
  var defaultValueDescription: String { description }
}
