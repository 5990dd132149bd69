import ArgumentParser
import DRCore
import DRPostgres
import ExampleSupport
import Foundation
import ServiceLifecycle

/// Follows the WAL until it is told to stop.
struct ReceiveWAL: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "receive-wal", abstract: "Streams WAL into the archive until SIGTERM or SIGINT.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Option(help: "The replication slot, made if it is missing.")
  var slot = "disaster_recovery"

  @Option(
    parsing: .unconditional, help: "Seconds between two stores of the last, partial segment: what a disaster can cost.")
  var partialInterval = 5.0

  @Flag(help: "Go on behind a gap. A new base backup is due then.")
  var acceptGap = false

  @Flag(help: "Only make the slot, so that the server keeps WAL from now on.")
  var prepareOnly = false

  func validate() throws {
    try allow("--partial-interval", partialInterval, 0.01...3600)
  }

  func run() async throws {
    try await reporting {
      let protected = try await ProtectedServer(repository, server)
      let archive = try await protected.archive(
        encoding: try protected.settings.encoding(), decoding: try protected.settings.decoding())
      try await protected.warnOfOtherSystem(archive)
      var options = WALReceiver.Options(slot: slot)
      options.partialInterval = .seconds(partialInterval)
      options.acceptsGap = acceptGap
      let verbose = repository.verbose
      let receiver = try usage {
        try WALReceiver(
          archive: archive, server: protected.connection, options: options, logger: repository.logger
        ) { point in
          if verbose { print("durable through \(point.position), \(Timestamp.format(point.time))") }
        }
      }
      let start = try await receiver.prepare(logger: repository.logger)
      print("slot \(slot) keeps WAL from \(start)")
      if prepareOnly { return }
      try await ServiceGroup(
        services: [receiver], gracefulShutdownSignals: [.sigterm, .sigint], logger: repository.logger
      ).run()
    }
  }
}
