import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport

/// Says which backup is where.
struct Status: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says which backup is on which tier, and when it was verified.")

  @OptionGroup var common: CommonArguments

  @Option(name: .customLong("tier"), help: "A tier; give it once for each.")
  var tiers: [String]

  func run() async throws {
    try await reporting {
      var repositories: [Repository] = []
      var isGood = true
      for place in tiers {
        do {
          repositories.append(try await common.repository(place))
        } catch let error as DRError {
          print("unreachable: \(place): \(error)")
          isGood = false
        }
      }
      let status = await ReplicationStatus.of(repositories, component: try common.only())
      for row in status.rows {
        print("\(row.component) \(row.backup)")
        for (tier, place) in zip(status.tiers, row.places) {
          print("  \(tier): \(place)")
          if case .torn = place { isGood = false }
        }
      }
      for (tier, manifests) in status.unreadable.sorted(by: { $0.key < $1.key }) {
        for broken in manifests { print("UNREADABLE on \(tier): \(broken.key): \(broken.error)") }
        isGood = false
      }
      for (tier, error) in status.unreachable.sorted(by: { $0.key < $1.key }) {
        print("unreachable: \(tier): \(error)")
        isGood = false
      }
      if !isGood { throw ExitCode(1) }
    }
  }
}
