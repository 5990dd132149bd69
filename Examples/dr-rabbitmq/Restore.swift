import ArgumentParser
import DRCore
import DRRabbitMQ
import DRStorage
import ExampleSupport
import Foundation
import Logging

/// Restores definitions, then messages.
struct Restore: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restores definitions, then the messages of queues, each confirmed by the broker.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var broker: BrokerArguments
  @OptionGroup var queues: QueueArguments

  @Argument(help: "The backup; the newest unless said.")
  var backup: String?

  @Flag(help: "Only definitions, no messages.")
  var definitionsOnly = false

  @Flag(help: "Only messages: the queues are there.")
  var messagesOnly = false

  @Flag(help: "Remove what the backup does not have (queues only if they are empty).")
  var exact = false

  @Flag(help: "Connect to nobody: leave out shovels and federation upstreams.")
  var harmless = false

  @Option(help: "What becomes of messages' own time to live: remaining, fresh or none.")
  var timeToLive = "fresh"

  @Option(
    name: .customLong("override"),
    help: "Restore in spite of this refusal: see its name in the error. May be given several times.")
  var overrides: [String] = []

  @Flag(
    help:
      "Of messages of one queue with the same message-id restore only the first. Earlier restores are not looked at.")
  var leaveOutDuplicates = false

  @Flag(
    help: "Go on with what a tap captured since the backup. A queue that has no tap is refused (--override no-tap).")
  var withTap = false

  @Option(
    help: "Only what was published up to this moment, with a time zone: '2026-11-23 12:00:00+00'. Implies --with-tap.")
  var targetTime: String?

  @Option(
    help: """
      A folder for journals, by which a restore that was killed goes on: by the same command again. They are there until all \
      queues are restored.
      """, completion: .directory)
  var journal: String?

  func validate() throws {
    guard !(definitionsOnly && messagesOnly) else {
      throw ValidationError("--definitions-only and --messages-only leave nothing to restore")
    }
    guard !definitionsOnly || (!withTap && journal == nil) else {
      throw ValidationError("--with-tap and --journal are for messages: not with --definitions-only")
    }
    guard !exact || (queues.patterns.isEmpty && queues.types.isEmpty) else {
      throw ValidationError("--exact is for all that the backup has: not with --queue or --type")
    }
    // Before definitions are restored.
    _ = try usage { (try choice(), try refusals()) }
  }

  func run() async throws {
    try await repository.audited("restore", object: "broker") { _ in
      let settings = try repository.settings()
      let connection = try broker.settings()
      let source = try await settings.restoreSource()
      let repository = source.repository
      let moment = try moment()
      let manifest = try await source.backup {
        try await self.repository.backup(
          backup, in: $0, holding: definitionsOnly ? "definitions" : "queues", by: moment ?? .distantFuture)
      }
      let reader = try await source.reader(for: manifest, logger: self.repository.logger)
      let logger = self.repository.logger
      if let journal { try Self.prepare(journal) }
      if !definitionsOnly {
        // Before definitions are.
        var restorer = RabbitMQMessageRestorer(broker: connection, queues: try selection())
        (restorer.overrides, restorer.journalFolder) = (try refusals(), journal)
        try await restorer.refuseUnknown(reader)
        if !messagesOnly { try await restorer.refuseOccupied(reader, logger: logger) }
      }
      if !messagesOnly {
        try await endingWithoutMessages(manifest) {
          try await restoreDefinitions(reader, connection, logger)
        }
      }
      if !definitionsOnly {
        for omission in manifest.leftOut { print("not in this backup: \(omission.what): \(omission.reason)") }
        var tap: RabbitMQTapLog?
        if withTap || moment != nil {
          tap = try RabbitMQTapLog(
            tier: repository.tier, component: settings.component, cluster: manifest.systemIdentifier ?? "",
            decoding: try settings.decoding())
        }
        try await restoreMessages(manifest, reader, connection, tap, to: moment.map { .time($0) } ?? .latest, logger)
      }
    }
  }

  /// Before anything is restored.
  private static func prepare(_ journal: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: journal, withIntermediateDirectories: true)
    } catch {
      throw DRError(
        .notWritable, "the folder of the journals cannot be made", advice: "name one that can be written: --journal",
        object: journal, cause: error)
    }
    guard FileManager.default.isWritableFile(atPath: journal) else {
      throw DRError(
        .notWritable, "the folder of the journals cannot be written", advice: "name one that can be written: --journal",
        object: journal)
    }
  }

  private func selection() throws -> RabbitMQQueueSelection {
    var selection = try queues.selection()
    selection.includesTransient = true
    return selection
  }

  // MARK: Definitions

  private func restoreDefinitions(
    _ reader: any BackupReader, _ connection: RabbitMQSettings, _ logger: Logger
  ) async throws {
    var restorer = RabbitMQDefinitionsRestorer(
      broker: connection, mode: exact ? .exact : .merge, vhosts: queues.vhosts.isEmpty ? nil : queues.vhosts)
    restorer.isHarmless = harmless
    if queues.patterns.isEmpty == false || queues.types.isEmpty == false {
      restorer.queues = try selection()
      print("of the definitions only what these queues need: users, other permissions and parameters are left out")
    }
    // Before anything is done.
    let plan = try await restorer.plan(from: reader, logger: logger)
    for entry in plan.diff.entries where entry.change != .extra || exact { print(entry) }
    print("\(plan.diff.same) definitions are there already")
    // An import that is refused has no other report.
    for finding in plan.findings where finding.severity == .failure { print(finding) }
    let report = try await restorer.run(from: reader, logger: logger)
    for finding in report.findings { print(finding) }
    if report.hasFailures { throw ExitCode(1) }
  }

  /// Says, where definitions could not be restored, which messages were not for that reason.
  private func endingWithoutMessages(_ manifest: BackupManifest, _ work: () async throws -> Void) async throws {
    do {
      try await work()
    } catch {
      let selection = try selection()
      let queues = RabbitMQQueueRecord.all(of: manifest).filter {
        selection.contains(vhost: $0.vhost, name: $0.name, type: $0.type, durable: $0.durable)
      }
      if !definitionsOnly, !queues.isEmpty {
        for queue in queues { print("not restored: \(queue.title), with \(queue.summary.messages) messages") }
        print(
          "no message was restored, for the definitions were not: mend that and restore again; or, where the queues are there, go on with "
            + "restore --messages-only \(manifest.id)")
      }
      throw error
    }
  }

  // MARK: Messages

  private func choice() throws -> RabbitMQMessageRestorer.TimeToLive {
    guard let choice = RabbitMQMessageRestorer.TimeToLive(rawValue: timeToLive) else {
      throw ValidationError("'\(timeToLive.prefix(20))' is no choice: remaining, fresh, none")
    }
    return choice
  }

  private func refusals() throws -> Set<RestoreRefusal> { Set(try overrides.map { try RestoreRefusal.override($0) }) }

  private func restoreMessages(
    _ manifest: BackupManifest, _ reader: any BackupReader, _ connection: RabbitMQSettings, _ tap: RabbitMQTapLog?,
    to target: RecoveryTarget, _ logger: Logger
  ) async throws {
    var restorer = RabbitMQMessageRestorer(broker: connection, queues: try selection())
    restorer.timeToLive = try choice()
    restorer.overrides = try refusals()
    restorer.leavesOutDuplicates = leaveOutDuplicates
    restorer.journalFolder = journal
    restorer.tap = tap
    restorer.progress = ProgressBar("restore").handler
    // It ran, and something is not as it should be.
    let isShort = MutableBox(false)
    restorer.onQueue = { queue in
      print(Self.line(queue))
      for finding in queue.findings {
        print(finding)
        if finding.severity == .failure { isShort.withLock { $0 = true } }
      }
    }
    restorer.onFailure = { queue, error in
      print("not restored: \(queue): \(error)")
      isShort.withLock { $0 = true }
    }
    do {
      let outcome = try await restorer.restore(from: reader, to: target, logger: logger)
      print("\(manifest.id): \(outcome.items) messages restored in \(Format.duration(outcome.duration))")
    } catch let error as DRError where isShort.value {
      FileHandle.standardError.write(Data("error: \(DRError.text(of: error))\n".utf8))
      throw ExitCode(1)
    }
    if isShort.value { throw ExitCode(1) }
  }

  private static func line(_ queue: RabbitMQMessageRestorer.QueueOutcome) -> String {
    let title = "\(queue.vhost)/\(queue.queue)"
    if queue.wasFinished {
      return "\(title): \(queue.resumedFrom) messages were confirmed before, and it is not touched again"
    }
    var line = "\(title): \(queue.published) messages confirmed"
    if queue.resumedFrom > 0 { line += ", from number \(queue.resumedFrom) on" }
    if queue.mayBeRepeated > 0 { line += ", up to \(queue.mayBeRepeated) of them may be there twice" }
    if queue.fromTap > 0 { line += ", \(queue.fromTap) of them captured since the backup" }
    if queue.mayBeInDump > 0 {
      line += ", at most \(queue.mayBeInDump) of them may be there twice: equal ones are in the dump"
    }
    if queue.aroundDump > 0 {
      line += ", at most \(queue.aroundDump) of them may have been consumed before the backup"
    }
    if queue.mayBeAfterTarget > 0 {
      line += ", at most \(queue.mayBeAfterTarget) may have been published after the target"
    }
    if queue.afterTarget > 0 { line += ", \(queue.afterTarget) were published later and left out" }
    if queue.duplicates > 0 { line += ", \(queue.duplicates) duplicates left out" }
    if queue.usersLeftOut > 0 { line += ", user_id left out of \(queue.usersLeftOut)" }
    return line
  }

  private func moment() throws -> Date? { try targetTime.map { try MomentArgument.parse($0) } }
}
