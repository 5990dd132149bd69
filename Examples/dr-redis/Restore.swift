import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import ExampleSupport
import Foundation

/// Restores into a running server.
struct Restore: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restores to a moment, an offset or the latest, into a running server.",
    discussion: """
      The server is told to follow this process, loads the data set and the changes, and is made a master again: no restart, \
      no file on its host. It connects to this host: --address must be one that it can reach.
      """)

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Flag(help: "By replication, into a running server.")
  var online = false

  @Argument(help: "The backup; the newest that reaches the target unless said.")
  var backup: String?

  @OptionGroup var targets: TargetArguments

  @Flag(help: "Replace what the server holds, after it was backed up into the repository.")
  var replace = false

  @Option(help: "The address of this host to listen on.")
  var address = "127.0.0.1"

  @Option(parsing: .unconditional, help: "Seconds that loading may take, and writing the data to the server's disk.")
  var loadLimit = 3600.0

  @Option(parsing: .unconditional, help: "Seconds that the server may give no sign of life while it is waited for.")
  var silenceLimit = 60.0

  @Option(
    parsing: .unconditional,
    help: "With --replace: seconds that clients' writes may be made to wait while what the server holds is backed up.")
  var pauseLimit = 60.0

  func validate() throws {
    guard online else { throw ValidationError("say how to restore: --online") }
    try allow("--load-limit", loadLimit, 1...604_800)
    try allow("--silence-limit", silenceLimit, 1...604_800)
    try allow("--pause-limit", pauseLimit, 0...86_400)
  }

  func run() async throws {
    try await repository.audited("restore", object: "server") { _ in
      let left = MutableBox("nothing was touched")
      try await endingInGoodOrder(saying: left.value) { try await restore(interrupted: left) }
    }
  }

  /// - Parameter left: Takes what the server is and holds, if it was touched when a signal came.
  private func restore(interrupted left: MutableBox<String>) async throws {
    let settings = try repository.settings()
    // What is replaced is stored first.
    if replace { try settings.warnOfPlaintext() }
    let source = try await settings.restoreSource()
    let tier = source.repository.tier
    let target = try targets.target()
    let manifest = try await source.backup { try await settings.redisBackup(backup, in: $0, for: target) }
    var restorer = RedisOnlineRestorer(
      server: try await server.connection(self.repository.logger), archive: try settings.archive(tier))
    restorer.address = address
    restorer.loadLimit = .seconds(loadLimit)
    restorer.silenceLimit = .seconds(silenceLimit)
    restorer.pauseLimit = .seconds(pauseLimit)
    restorer.onInterruption = { said in left.withLock { $0 = said } }
    // Not among the backups of what is restored: it is another server's data, which no restore to the latest, no
    // retention and no receiver may take for the component's newest.
    var replaced = settings
    replaced.repository += "/replaced"
    if replace {
      restorer.existingData = .replace(
        backUpInto: Repository(tier: try await replaced.tier(creating: true)), encoding: try settings.encoding())
    }
    restorer.progress = ProgressBar("restore").handler
    let begin = ContinuousClock.now
    restorer.onStep = { step in
      print("\(step.rawValue) after \(Format.duration(begin.duration(to: .now)))")
      fflush(nil)
    }
    let kept = MutableBox<String?>(nil)
    restorer.onFormerData = { [replaced] former in
      kept.withLock {
        $0 = "kept: what was there, as \(former.id) of \(former.component) in the repository \(replaced.repository)"
      }
    }
    let report: RedisOnlineRestorer.Report
    do {
      report = try await restorer.restoreServer(
        from: try await source.reader(for: manifest, logger: self.repository.logger), to: target,
        logger: self.repository.logger)
    } catch {
      if let kept = kept.value { print(kept) }
      fflush(nil)
      throw error
    }
    if let kept = kept.value { print(kept) }
    print(
      "\(manifest.id) restored into \(restorer.server), to offset \(report.reached.position), "
        + "\(Timestamp.format(report.reached.time)): \(report.keys) keys are there"
        + (report.commands > 0 ? ", after \(report.commands) changes" : "")
        + "; \(Format.bytes(report.outcome.bytes)) in \(Format.duration(report.outcome.duration))")
  }
}
