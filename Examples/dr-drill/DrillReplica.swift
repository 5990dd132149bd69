import DRCore
import DRStorage
import ExampleSupport
import Foundation
import Logging
import Synchronization

/// A second tier, in a bucket, to which the drill's repository is copied while it grows. When the disaster takes the first one too, what
/// was copied by then is what there is.
final class DrillReplica: Sendable {
  struct Place: Codable, Sendable {
    /// Below the given tier, in a folder of this drill's own.
    var url: String
    /// How `dr-wal`, and a drill that is resumed, reach it. It names the credentials' file.
    var s3: S3Settings
  }

  let place: Place
  let repository: Repository
  /// Nil once there is nothing to copy any more.
  private let replicator: Replicator?
  private let running = Mutex<Task<Void, Never>?>(nil)
  private let state = Mutex((rounds: 0, lastFailure: String?.none))

  /// How long there is between the end of a copy and the next one.
  private static let interval = Duration.milliseconds(500)

  init(_ place: String, of source: Repository, _ folder: DrillFolder) async throws {
    let url = "\(place)/dr-drill-\(UUID().uuidString.lowercased().prefix(8))"
    let configuration = try S3Configuration(url: place)
    var settings = S3Settings(
      endpoint: configuration.endpoint, region: configuration.region, credentials: "file:\(folder.credentials)",
      certificateAuthority: configuration.certificateAuthority)
    // dr-wal runs as the server's user, in the server's environment.
    guard let found = try await configuration.credentials.credentials() else {
      throw DRError(
        .invalidConfiguration, "no credentials for \(place) were found",
        advice: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    }
    try folder.write(DrillReplica.profile(found), to: folder.credentials)
    let tier = try await TierPlace.open(url, creating: false, s3: settings)
    // Tried out once, not by every dr-wal.
    settings.features = (tier as? S3Tier)?.features
    self.place = Place(url: url, s3: settings)
    repository = Repository(tier: tier)
    replicator = try Replicator(from: source, to: repository)
  }

  /// After the disaster.
  init(resuming place: Place) async throws {
    self.place = place
    repository = Repository(tier: try await TierPlace.open(place.url, creating: false, s3: place.s3))
    replicator = nil
  }

  private static func profile(_ credentials: S3Credentials) -> String {
    var lines = [
      "[default]", "aws_access_key_id = \(credentials.accessKeyID)",
      "aws_secret_access_key = \(credentials.secretAccessKey)",
    ]
    if let token = credentials.sessionToken { lines.append("aws_session_token = \(token)") }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Copies again and again, until ``stop()``.
  func start(_ logger: Logger) {
    guard let replicator else { return }
    let task = Task {
      while !Task.isCancelled {
        do {
          let outcome = try await replicator.run(logger: logger)
          if let failure = outcome.failures.values.first { throw failure }
          state.withLock { $0 = ($0.rounds + 1, nil) }
        } catch {
          state.withLock { $0.lastFailure = "\(error)" }
          logger.warning("replication failed; it is tried again", metadata: ["error": "\(error)"])
        }
        try? await Task.sleep(for: DrillReplica.interval)
      }
    }
    running.withLock { $0 = task }
  }

  /// Waits until what is stored now was copied.
  func catchUp() async throws {
    // The round that is under way may have passed it already.
    let wanted = state.withLock { $0.rounds } + 2
    let end = ContinuousClock.now + .seconds(900)
    while state.withLock({ $0.rounds }) < wanted {
      guard ContinuousClock.now < end else {
        throw DRError(
          .timedOut, "the copy to \(repository.tier.name) did not catch up",
          advice: state.withLock { $0.lastFailure } ?? "see what the tier says")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  func stop() async {
    let task = running.withLock { running in
      defer { running = nil }
      return running
    }
    task?.cancel()
    await task?.value
  }

  /// Removes all that the drill has put there.
  ///
  /// - Returns: How many objects that were.
  func remove() async throws -> Int {
    let keys = try await repository.tier.listAll(prefix: "").map(\.key)
    let failures = try await repository.tier.deleteAll(keys)
    if let failure = failures.values.first { throw failure }
    return keys.count
  }
}
