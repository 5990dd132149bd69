import ArgumentParser
import DRCore
import DRRabbitMQ
import DRStorage
import ExampleSupport

/// Says what a restore of definitions would do.
struct Diff: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what a restore of definitions would add, change and leave, and what conflicts. Changes nothing.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var broker: BrokerArguments

  @Argument(help: "The backup; the newest unless said.")
  var backup: String?

  @Option(name: .customLong("vhost"), help: "Only this vhost. May be given several times.")
  var vhosts: [String] = []

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let repository = Repository(tier: try await settings.tier(creating: false, probing: .reading))
      let manifest = try await self.repository.backup(backup, in: repository, holding: "definitions")
      let restorer = RabbitMQDefinitionsRestorer(
        broker: try broker.settings(), vhosts: vhosts.isEmpty ? nil : vhosts)
      let plan = try await restorer.plan(
        from: repository.reader(for: manifest, decoding: try settings.decoding()), logger: self.repository.logger)
      for entry in plan.diff.entries { print(entry) }
      for finding in plan.findings { print(finding) }
      print("\(manifest.id): \(plan.diff.entries.count) differ, \(plan.diff.same) are the same")
      if plan.hasFailures { throw ExitCode(1) }
    }
  }
}
