import ArgumentParser
import DRCore
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// Verifies backups: daily as they are stored, weekly by restoring them.
@main
struct VerifyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-verify",
    abstract: "Verifies what is stored, that it can be restored, and the reports that say so.",
    discussion: """
      A repository, and each of its copies, is s3://bucket/prefix, the folder of a local one, or a JSON file with 'repository' and 's3'. \
      \(ProgramExit.codes(done: "verified", wrong: "not verified", failed: "it could not be looked at"))
      """,
    subcommands: [VerifyBackups.self, RestoreTest.self, Baseline.self, NegativeControlCommand.self, Report.self])
}

/// Where what is verified lies.
struct PlaceArguments: ParsableArguments {
  @Option(help: "The repository.")
  var repository: String

  @Option(name: .customLong("copy"), help: "A copy of the repository; give it once for each.")
  var copies: [String] = []

  @Option(help: "byKind: one component of each kind. byKindAndName: a folder for each component.")
  var layout = RepositoryLayout.byKind.rawValue

  @Option(help: "A file of age identities, which open what is encrypted.", completion: .file())
  var identityFile: String?

  @Flag(name: .shortAndLong, help: "Log what happens inside.")
  var verbose = false

  var logger: Logger { ProgramLog.make("dr-verify", verbose: verbose) }

  func open(_ place: String) async throws -> Repository {
    guard let layout = RepositoryLayout(rawValue: layout) else {
      throw ValidationError("'\(layout.prefix(40))' is no layout: byKind or byKindAndName")
    }
    return Repository(tier: try await TierPlace.open(place, creating: false, probing: .reading), layout: layout)
  }

  func decoding() throws -> Decoding {
    try RepositoryConfiguration(
      repository: repository, component: Component(.config, "any"), identityFile: identityFile
    ).decoding()
  }
}
