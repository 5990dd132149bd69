import DRCore
import Foundation

extension RepositoryConfiguration {
  /// An unset variable of a script is no destination, and neither is what the restore reads from.
  ///
  /// - Parameter config: The configuration's own file.
  /// - Throws: ``DRError`` with `destinationInUse`.
  public func refuseDestination(_ destination: String, config: String) throws {
    func refuse(_ what: String) -> DRError {
      DRError(
        .destinationInUse, "the destination \(what): nothing was touched", advice: "restore into a folder of its own",
        object: destination)
    }
    guard !destination.isEmpty else { throw refuse("is empty") }
    let folder = URL(fileURLWithPath: destination).resolvingSymlinksInPath().path
    let needed = ([repository, identityFile, config] + (copies ?? [])).compactMap { $0 }
      .filter { !TierPlace.isBucket($0) }.map { URL(fileURLWithPath: $0).resolvingSymlinksInPath().path }
    for path in needed where path == folder || path.hasPrefix(folder + "/") {
      throw refuse("holds \(path), which the restore needs")
    }
  }
}
