import ArgumentParser
import DRCore
import DRRabbitMQ
import ExampleSupport
import Foundation
import ServiceLifecycle

/// Captures what is published until it is told to stop.
struct Tap: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Captures what is published to queues into the repository, until SIGTERM or SIGINT.",
    discussion: """
      Says for each queue what is captured and what is not. Make the taps (--prepare-only) before a backup, or start this \
      before it: then backup and tap leave nothing between them.
      """)

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var broker: BrokerArguments
  @OptionGroup var queues: QueueArguments

  @Option(help: "Names the tap: its queues on the broker are dr.tap.<name>.…")
  var name = "dr"

  @Option(help: "The type of the tap's own queues: classic or quorum.")
  var tapType = "classic"

  @Option(parsing: .unconditional, help: "Seconds between two stores: what a disaster can cost.")
  var segmentInterval = 5.0

  @Flag(
    help: """
      Hear also what is published to the default exchange, by the broker's firehose: at most once, and only through the \
      node that is asked.
      """)
  var firehose = false

  @Flag(help: "Make the taps, say what they cover, and end: the broker keeps copies from then on.")
  var prepareOnly = false

  @Flag(help: "Remove the taps of this configuration and these queues with what is not stored yet, and end.")
  var remove = false

  @Flag(help: "With --remove: also those of this name that other configurations made.")
  var ofOthers = false

  @Option(
    parsing: .unconditional,
    help: "Seconds after which a tap that was killed does not keep another one of its name out any more.")
  var leaseSeconds = 30.0

  func validate() throws {
    guard segmentInterval > 0 else { throw ValidationError("--segment-interval must be more than 0") }
    try allow("--lease-seconds", leaseSeconds, 1...3600)
    guard remove || !ofOthers else { throw ValidationError("--of-others is for --remove") }
    guard !(prepareOnly && remove) else { throw ValidationError("--prepare-only and --remove exclude each other") }
  }

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      if !remove { try settings.warnOfPlaintext() }
      var options = RabbitMQTap.Options(name: name)
      options.type = tapType
      options.segmentInterval = .seconds(segmentInterval)
      options.firehose = firehose
      options.leaseLife = .seconds(leaseSeconds)
      let verbose = repository.verbose
      let logger = repository.logger
      var tap = try RabbitMQTap(
        component: settings.component, broker: try broker.settings(), queues: try queues.selection(),
        tier: try await settings.tier(creating: false), encoding: try settings.encoding(),
        options: options, logger: logger
      ) { point in
        if verbose { print("durable through \(Timestamp.format(point.time)), \(point.position)") }
      }
      if remove {
        print("\(try await tap.removeTaps(ofOthers: ofOthers, logger: logger)) taps removed")
        let others = try await tap.otherOwners()
        if !others.isEmpty {
          print("taps of that name that stay, for they are other configurations': \(others.joined(separator: ", "))")
        }
        return
      }
      let coverage = try await tap.prepare(logger: logger)
      for queue in coverage where prepareOnly || queue.tap == nil { print(queue) }
      if prepareOnly { return }
      tap.onState = { [name] state in
        switch state {
        case .waiting: print("waits: another tap '\(name)' writes to this repository, or its lease has yet to end")
        case .capturing(let queue): print(queue)
        }
        // Somebody may wait for these lines in a file.
        fflush(nil)
      }
      try await ServiceGroup(services: [tap], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger).run()
    }
  }
}
