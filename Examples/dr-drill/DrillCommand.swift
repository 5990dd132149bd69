import ArgumentParser
import DRCore
import Dispatch
import ExampleSupport
import Foundation
import Logging

/// Destroys a PostgreSQL server of its own under load, brings it back, and proves what came back.
@main
struct DrillCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-drill",
    abstract: "Destroys a PostgreSQL server of its own under load, brings it back, and proves what came back.",
    discussion: """
      Exit codes: 0 everything came back as it should and within the targets, 1 it did not, 2 the drill could not run.
      It starts its own server and touches no other.
      """)

  @Option(help: "How much data to fill in: bytes, or with kB, MB, GB.")
  var size = ByteCount(200_000_000)

  @Option(help: "How many connections write the ledger.")
  var connections = 4

  @Option(help: "Seconds of writing before the backup ends, before the target, and before the disaster, each.")
  var seconds = 3.0

  @Option(help: "Makes the data, the target and the damage repeatable.")
  var seed: UInt64 = 1

  @Option(help: "Seconds from the kill to the first right answer that are allowed. The plan's: one hour.")
  var rtoTarget = 3600.0

  @Option(help: "Seconds of commits that may be lost. The plan's: one hour.")
  var rpoTarget = 3600.0

  @Option(help: "Seconds between two stores of the last, partial WAL segment.")
  var partialInterval = 1.0

  @Flag(inversion: .prefixedNo, help: "Encrypt to a key made for this drill.")
  var encrypt = true

  @Flag(help: "Leave the repository, and print the stock commands that open it.")
  var keep = false

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  func validate() throws {
    guard (1...64).contains(connections) else { throw ValidationError("--connections must be 1 to 64") }
    guard size.bytes >= 1_000_000 else { throw ValidationError("--size must be at least 1MB") }
    guard (0.5...3600).contains(seconds) else { throw ValidationError("--seconds must be 0.5 to 3600") }
    guard partialInterval > 0, rtoTarget > 0, rpoTarget > 0 else {
      throw ValidationError("targets and intervals must be more than 0")
    }
  }

  func run() async throws {
    try await reporting {
      let drill = try await Drill(self, logger: ProgramLog.make("dr-drill", verbose: verbose))
      let running = Task { try await drill.run() }
      // Ctrl-C ends the drill in good order: its servers and folders go.
      let signals = [SIGINT, SIGTERM].map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number)
        source.setEventHandler { running.cancel() }
        source.resume()
        return source
      }
      defer { for source in signals { source.cancel() } }
      let report = try await running.value
      report.print()
      if report.verdict != .passed { throw ExitCode(report.verdict.exitCode) }
    }
  }
}

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
