import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport
import Logging

/// Copies, prunes and looks at repositories.
@main
struct RepositoryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-repository",
    abstract: "Copies a repository to further tiers, prunes it, and says which backup is where, and who did what.",
    discussion: """
      A tier is s3://bucket/prefix or the folder of a local one; credentials of a bucket come from the environment or from \
      AWS's own files. Or it is a JSON file with 'repository' and 's3', as the other programs have it: so that two buckets may \
      have endpoints, credentials and encryptions of their own. \(ProgramExit.codes())
      """,
    subcommands: [Status.self, Replicate.self, Prune.self, Audit.self, CleanTier.self, Kit.self])
}

/// What every subcommand is told.
struct CommonArguments: ParsableArguments {
  @Option(help: "byKind: one component of each kind. byKindAndName: a folder for each component.")
  var layout = RepositoryLayout.byKind.rawValue

  @Option(help: "Only this component: postgres/app.")
  var component: String?

  @Flag(
    help: """
      You promise that no other process writes to this repository: it may be in a bucket without conditional put.
      """)
  var soleWriter = false

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  var logger: Logger { ProgramLog.make("dr-repository", verbose: verbose) }

  func only() throws -> Component? { try usage { try component.map { try Component(parsing: $0) } } }

  /// A place or a component that was mistyped must not look like one in which all is done.
  ///
  /// - Throws: ``DRError`` with `objectNotFound`.
  func refuseEmpty(_ repository: Repository, isEmpty: Bool) async throws {
    guard isEmpty else { return }
    let others = Set(try await repository.catalog().backups.map { "\($0.component)" }).sorted()
    throw DRError(
      .objectNotFound,
      "there is no backup" + (component.map { " of \($0)" } ?? "") + " on \(repository.tier.place), and no change log",
      advice: others.isEmpty
        ? "see that the place, and --layout, are the right ones" : "it has backups of \(others.joined(separator: ", "))"
    )
  }

  func refuseEmpty(_ plan: PrunePlan, on repository: Repository) async throws {
    try await refuseEmpty(
      repository, isEmpty: plan.decisions.isEmpty && plan.logs.isEmpty && plan.unreadable.isEmpty)
  }

  /// - Parameter probing: `reading` for what writes nothing, or only removes.
  func repository(
    _ place: String, limit: Int64? = nil, probing: S3Configuration.Probing = .everything
  ) async throws -> Repository {
    guard let layout = RepositoryLayout(rawValue: layout) else {
      throw ValidationError("'\(layout.prefix(40))' is no layout: byKind or byKindAndName")
    }
    // A bucket tries again by itself; a folder that fails has failed.
    let tier = try await TierPlace.open(place, creating: false, probing: probing, soleWriter: soleWriter)
    return Repository(tier: limit.map { RateLimitedTier(tier, upload: $0) } ?? tier, layout: layout)
  }
}
