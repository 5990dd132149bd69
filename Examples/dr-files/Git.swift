import ArgumentParser
import DRCore
import DRFiles
import ExampleSupport
import Foundation
import ServiceLifecycle

/// The history of a tree in a git repository.
struct Git: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Keeps the history of a folder in a bare git repository, and brings back any state of it.",
    subcommands: [TakeSnapshot.self, Log.self, RestoreSnapshot.self])

  struct Place: ParsableArguments {
    @Option(help: "The bare git repository; the first snapshot makes it.", completion: .directory)
    var git: String

    @Flag(name: .shortAndLong, help: "Log what happens inside.")
    var verbose = false
  }

  struct TakeSnapshot: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "snapshot", abstract: "Commits what has changed in a folder: once, or again and again.")

    @OptionGroup var place: Place
    @OptionGroup var tree: TreeArguments

    @Option(help: "Again every so many seconds, until SIGTERM or SIGINT; the plan's interval is 900.")
    var every: Double?

    @Option(help: "'Name <address>'.")
    var author: String?

    @Option(help: "The first line of the commit's message.")
    var message: String?

    func validate() throws {
      try allow("--every", every, 0.1...86_400)
    }

    func run() async throws {
      try await reporting {
        let logger = ProgramLog.make("dr-files", verbose: place.verbose)
        var snapshotter = GitSnapshotter(
          tree.source(of: try Component(.config, "git")), to: absolute(place.git), logger: logger
        ) { outcome in
          Git.say(outcome)
          // Somebody may wait for this line in a file.
          fflush(nil)
        }
        if let author { snapshotter.author = author }
        snapshotter.message = message
        guard let every else {
          let taken = try await endingInGoodOrder(saying: "nothing was committed") { [snapshotter] in
            try await snapshotter.take(logger: logger)
          }
          Git.say(taken)
          return
        }
        snapshotter.interval = .seconds(every)
        try await ServiceGroup(
          services: [snapshotter], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger
        ).run()
      }
    }
  }

  struct Log: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists the snapshots, the newest first.")

    @OptionGroup var place: Place

    func run() async throws {
      try await reporting {
        for snapshot in try await GitSnapshotter.snapshots(in: absolute(place.git)) { Git.say(snapshot) }
      }
    }
  }

  struct RestoreSnapshot: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "restore", abstract: "Restores a snapshot, or parts of it: into a new folder, or in place.")

    @OptionGroup var place: Place

    @Argument(help: "The commit, as git names it; the newest unless said.")
    var commit: String?

    @Option(help: "The newest that was taken by this moment, with a time zone: '2026-11-23 12:00:00+00'.")
    var targetTime: String?

    @OptionGroup var destination: DestinationArguments

    func validate() throws {
      guard commit == nil || targetTime == nil else {
        throw ValidationError("a commit and a moment were given: give one of them")
      }
      _ = try usage { try moment() }
    }

    func run() async throws {
      try await reporting {
        let logger = ProgramLog.make("dr-files", verbose: place.verbose)
        try await GitSnapshotter.withSnapshot(commit, by: try moment(), in: absolute(place.git)) {
          [destination] reader in
          try await destination.restore(reader, logger)
        }
      }
    }

    private func moment() throws -> Date? {
      guard case .time(let date) = try RecoveryTarget(immediate: false, time: targetTime, position: nil) else {
        return nil
      }
      return date
    }
  }

  private static func say(_ outcome: GitSnapshotter.Outcome) {
    if let snapshot = outcome.snapshot { say(snapshot) } else { print("nothing has changed") }
    for omission in outcome.leftOut { print("left out: \(omission.what): \(omission.reason)") }
  }

  private static func say(_ snapshot: GitSnapshotter.Snapshot) {
    print("\(snapshot.id.prefix(12))  \(Timestamp.format(snapshot.time))  \(snapshot.subject)")
  }
}
