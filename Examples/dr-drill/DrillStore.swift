import DRCore
import DRStorage
import ExampleSupport
import Foundation
import Logging

/// Where the drill's backups are: in its folder, and with a second tier also there. The disaster takes the first one then.
final class DrillStore: Sendable {
  let recipients: [String]?
  let encoding: Encoding
  let decoding: Decoding
  private let folder: DrillFolder
  private let first: Repository
  private let replica: DrillReplica?
  private let isFirstLost: MutableBox<Bool>

  /// Makes the repository, and the key.
  init(_ options: DrillOptions, in folder: DrillFolder) async throws {
    var recipients: [String]?
    if options.encrypt {
      let identity = AgeIdentity.generate()
      try folder.write((identity.secretText() ?? "") + "\n", to: folder.identity)
      recipients = identity.recipient.map { ["\($0)"] }
    }
    let settings = try DrillStore.settings(folder, recipients)
    first = Repository(tier: try await settings.tier(creating: true))
    if let place = options.tier {
      replica = try await DrillReplica(place, of: first, folder)
    } else {
      replica = nil
    }
    (self.folder, self.recipients, isFirstLost) = (folder, recipients, MutableBox(false))
    (encoding, decoding) = (try settings.encoding(), try settings.decoding())
  }

  /// After the disaster. It may be that the clean-up has begun: then there is no repository any more, and no step that needs it.
  init(resuming memory: DrillMemory, in folder: DrillFolder) async throws {
    let settings = try DrillStore.settings(folder, memory.recipients)
    if let copy = memory.copy {
      let replica = try await DrillReplica(resuming: copy)
      (first, self.replica) = (replica.repository, replica)
    } else {
      first = Repository(tier: try await settings.tier(creating: true, adopting: true))
      replica = nil
    }
    (self.folder, recipients, isFirstLost) = (folder, memory.recipients, MutableBox(memory.copy != nil))
    (encoding, decoding) = (try settings.encoding(), try settings.decoding())
  }

  private static func settings(_ folder: DrillFolder, _ recipients: [String]?) throws -> RepositoryConfiguration {
    RepositoryConfiguration(
      repository: folder.repository, component: try Component(.postgres, "drill"), recipients: recipients,
      identityFile: recipients == nil ? nil : folder.identity)
  }

  /// Where the backups are: on the first tier, and after the disaster on the second, if there is one.
  var repository: Repository { lost?.repository ?? first }

  /// The second tier, once it is all that there is.
  private var lost: DrillReplica? { isFirstLost.value ? replica : nil }

  /// What a resumed drill finds the second tier by.
  var copy: DrillReplica.Place? { replica?.place }

  /// How another program reaches the repository.
  func settings(for component: Component) -> RepositoryConfiguration {
    RepositoryConfiguration(
      repository: lost?.place.url ?? folder.repository, component: component, recipients: recipients,
      identityFile: recipients == nil ? nil : folder.identity, s3: lost?.place.s3)
  }

  /// - Returns: The second tier's name, if there is one.
  func startReplication(_ logger: Logger) -> String? {
    replica?.start(logger)
    return replica?.repository.tier.name
  }

  /// Returns once what was stored when it was called is on the second tier too.
  func catchUp() async throws { try await replica?.catchUp() }

  /// Nothing is copied any more.
  func endReplication() async { await replica?.stop() }

  /// The first tier goes with the servers.
  ///
  /// - Returns: The name of the second one, from which everything comes back then.
  func loseFirstTier() throws -> String? {
    guard let replica else { return nil }
    try FileManager.default.removeItem(atPath: folder.repository)
    isFirstLost.withLock { $0 = true }
    return replica.repository.tier.name
  }

  /// Removes what the drill has put on the second tier.
  ///
  /// - Returns: How many objects.
  func removeCopy() async throws -> Int {
    guard let replica else { return 0 }
    await replica.stop()
    return try await replica.remove()
  }
}
