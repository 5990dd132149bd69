public import ArgumentParser
import DRCore
import DRStorage
import Foundation

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
      let settings = try repository.settings()
      let place = settings.repository
      if !TierPlace.isBucket(place), access(place + "/" + LocalTier.marker, F_OK) == 0 {
        guard access(place, W_OK) == 0 else {
          throw DRError(
            .notWritable, "the repository is there already, and cannot be written",
            advice: "see how its volume is mounted, who owns it, and its mode", object: place)
        }
        print("the repository is there already: nothing was changed: \(place)")
        return
      }
      let tier = try await settings.tier(creating: true, adopting: adopt)
      print("the repository is \(tier.name)")
    }
  }
}
