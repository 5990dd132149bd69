import ArgumentParser
import DRStorage
import ExampleSupport

/// Makes the repository: the only command that does. Whatever else finds no repository stops, for the volume that it is
/// on may not be mounted.
struct Initialize: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init", abstract: "Makes the repository's folder. Once; no other command makes one.")

  @OptionGroup var repository: RepositoryArguments

  @Flag(
    help: "The folder holds something: it is a repository whose marker was lost. Sure that the right volume is mounted?"
  )
  var adopt = false

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let tier = try await settings.tier(creating: true, adopting: adopt)
      print("the repository is \(tier.name)")
    }
  }
}
