import ArgumentParser
import DRCore
import DRRedis
import ExampleSupport
import Foundation
import Logging
import ServiceLifecycle

/// Follows the changes until it is told to stop.
struct Receive: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Follows every change into the repository until SIGTERM or SIGINT; takes a snapshot where it must.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Option(
    parsing: .unconditional, help: "Seconds between two stores of the last, partial segment: what a disaster can cost.")
  var partialInterval = 0.5

  @Flag(help: "Stop at a gap instead of taking a new snapshot.")
  var stopAtGap = false

  @Option(help: "Where data waits in the clear while the repository is slower than the server; $TMPDIR unless said.")
  var spoolFolder: String?

  @Option(
    parsing: .unconditional, help: "Seconds after which a receiver that was killed no longer keeps another out, about.")
  var leaseSeconds = 10.0

  @Option(parsing: .unconditional, help: "Seconds to wait for another receiver of this component to end.")
  var patience = 20.0

  func validate() throws {
    try allow("--partial-interval", partialInterval, 0.01...3600)
    try allow("--lease-seconds", leaseSeconds, 1...3600)
    try allow("--patience", patience, 0...86_400)
  }

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      try settings.warnOfPlaintext()
      let tier = try await settings.tier(creating: false)
      var options = RedisChangeLog.Options()
      options.partialInterval = .seconds(partialInterval)
      options.takesSnapshots = !stopAtGap
      options.spoolFolder = spoolFolder
      options.leaseLife = .seconds(leaseSeconds)
      options.leasePatience = .seconds(patience)
      let verbose = repository.verbose
      let log = try RedisChangeLog(
        archive: try settings.archive(tier), server: try server.settings(), sentinel: try server.sentinels(),
        options: options,
        logger: repository.logger, onEvent: Receive.say
      ) { point in
        if verbose { print("durable through \(point.position), \(Timestamp.format(point.time))") }
      }
      // What ends it is said once, by `reporting`.
      let silent = Logger(label: "dr-redis", factory: { _ in SwiftLogNoOpLogHandler() })
      try await ServiceGroup(services: [log], gracefulShutdownSignals: [.sigterm, .sigint], logger: silent).run()
    }
  }

  @Sendable private static func say(_ event: RedisChangeLog.Event) {
    switch event {
    case .gap(let after, let until):
      let histories =
        after.history == until.history
        ? "of history \(after.history ?? "unknown")"
        : "of history \(until.history ?? "unknown"); the former was \(after.history ?? "unknown")"
      print("GAP: nothing between offset \(after.position) and \(until.position) \(histories)")
    case .snapshot(let manifest): print("\(manifest.id) committed at offset \(manifest.recoveryPoint.position)")
    case .resumed(let point): print("goes on after offset \(point.position)")
    }
    // Somebody may wait for this line in a file.
    fflush(nil)
  }
}
