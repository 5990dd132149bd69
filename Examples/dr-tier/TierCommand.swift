import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport
import Foundation

/// Looks into a tier, and moves objects to and from it.
@main
struct TierCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dr-tier",
    abstract: "Puts, gets, lists, thaws and cleans the objects of a tier: a folder, or a bucket.",
    discussion: """
      A bucket is written s3://bucket/prefix. Endpoint, region, certificates and credentials are found as the AWS tools \
      find them: AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE, AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws, container, instance. \
      Or a tier is a JSON file with 'repository' and 's3', as the other programs have it: for an encryption, a storage class.
      \(ProgramExit.codes())
      """,
    subcommands: [
      Initialize.self, Put.self, Get.self, ListObjects.self, Thaw.self, Features.self, CleanUploads.self,
      Lifecycle.self,
    ])
}

/// Which tier is meant.
struct TierArguments: ParsableArguments {
  @Option(
    name: .customLong("tier"), help: "The tier: an absolute path, s3://bucket/prefix, or a JSON file that says it.")
  var place: String

  @Option(parsing: .unconditional, help: "How many objects are under way at once.")
  var concurrency = 16

  func validate() throws {
    guard (1...256).contains(concurrency) else { throw ValidationError("the concurrency is 1 to 256") }
  }

  func open(_ probing: S3Configuration.Probing = .everything) async throws -> any StorageTier {
    try await TierPlace.open(place, creating: false, probing: probing)
  }
}

/// Makes a tier in a folder.
struct Initialize: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Makes the folder of a tier, if it is not there. A bucket is only looked at.")

  @OptionGroup var tier: TierArguments

  @Flag(help: "The folder holds something: it is a tier whose marker was lost. Sure that the right volume is mounted?")
  var adopt = false

  func run() async throws {
    try await reporting {
      print(
        "the tier is \(try await TierPlace.open(tier.place, creating: true, adopting: adopt, probing: .reading).name)")
    }
  }
}

/// A prefix that was mistyped must not look like one below which all is done.
func nothing(under prefix: String, of tier: any StorageTier) -> String {
  ["", "/"].contains(prefix) ? "\(tier.name) holds no object" : "there is nothing under '\(prefix)' on \(tier.name)"
}

/// Runs the body for each item, a number of them at once; the first error ends all.
func forEach<Item: Sendable>(
  _ items: [Item], atOnce: Int, _ body: @escaping @Sendable (Item) async throws -> Void
) async throws {
  try await withThrowingTaskGroup(of: Void.self) { group in
    for (index, item) in items.enumerated() {
      if index >= atOnce { try await group.next() }
      group.addTask { try await body(item) }
    }
    try await group.waitForAll()
  }
}
