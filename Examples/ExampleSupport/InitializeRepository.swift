public import ArgumentParser
import DRStorage

/// Makes the repository: the only command that does. Whatever else finds no repository stops, for the volume that it is
/// on may not be mounted.
public struct InitializeRepository<Program: BackupProgram>: AsyncParsableCommand {
  public static var configuration: CommandConfiguration {
    CommandConfiguration(
      commandName: "init", abstract: "Makes the repository's folder. Once; no other command makes one.")
  }

  @OptionGroup var repository: RepositoryArguments<Program>

  @Flag(
    help: "The folder holds something: it is a repository whose marker was lost. Sure that the right volume is mounted?"
  )
  var adopt = false

  public init() {}

  public func run() async throws {
    try await reporting {
      let tier = try await repository.settings().tier(creating: true, adopting: adopt)
      print("the repository is \(tier.name)")
    }
  }
}
