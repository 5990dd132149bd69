import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import ExampleSupport
import Foundation

/// Restores a backup into a data folder.
struct Restore: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restores into a data folder; start the server on it to recover to the target.",
    discussion: """
      Before anything is written, it looks whether the WAL in the repository leads from the backup to the target: by the names of \
      the segments, and by the content of the last ones. Damage in one before shows only in the server's recovery, which stops \
      at it, unless --read-wal has every needed segment read first.
      """)

  @OptionGroup var repository: RepositoryArguments

  @Option(help: "The data folder to write; absent or empty.")
  var to: String

  @Option(help: "Recover to this moment: '2026-11-23 12:00:00+00'. Give one target at most; none is the latest.")
  var targetTime: String?

  @Option(help: "Recover to this LSN: 0/3000148.")
  var targetLsn: String?

  @Option(help: "Recover to a restore point of this name.")
  var targetName: String?

  @Flag(help: "Stop as soon as the backup is consistent.")
  var immediate = false

  @Option(help: "The backup; unless said the newest that reaches the target.")
  var backup: String?

  @Option(help: "The timeline to follow: latest, current, or a number.")
  var timeline: String?

  @Option(name: .customLong("tablespace"), help: "Move a tablespace: OLD=NEW. May be given several times.")
  var tablespaces: [String] = []

  @Flag(help: "Replace a data folder that holds something; it is kept beside.")
  var replace = false

  @Option(help: "Who owns the files, when root restores.")
  var owner: String?

  @Option(help: "The restore_command; dr-wal beside this program unless said.")
  var restoreCommand: String?

  @Flag(help: "Restore although the WAL in the archive is not seen to reach the target. The server finds out later.")
  var skipWalCheck = false

  @Flag(help: "First read and digest every WAL segment that the recovery needs, not only their names.")
  var readWal = false

  func validate() throws {
    _ = try usage { (try target(), try TimelineArgument.parse(timeline), try mapping()) }
    guard !(readWal && (skipWalCheck || restoreCommand != nil)) else {
      throw ValidationError(
        "--read-wal reads the repository's WAL: give it without --skip-wal-check and --restore-command")
    }
  }

  func run() async throws {
    try await repository.audited("restore", object: to) { line in
      let (id, outcome) = try await endingInGoodOrder(saying: "nothing was restored") { try await restore() }
      line.concerns("\(id) to \(to)")
      print(
        "\(id) restored to \(to): \(outcome.items) files, \(Format.bytes(outcome.bytes)) in "
          + "\(Format.duration(outcome.duration)). Start the server on it: it recovers by itself, and is "
          + "there once pg_is_in_recovery() is false.")
      for path in outcome.movedAside { print("kept: \(path)") }
      var status = stat()
      if stat(to, &status) == 0, status.st_uid == 0 {
        print(
          "warning: its files belong to root, and no server starts as root: chown -R them, or restore with --owner postgres"
        )
      }
    }
  }

  private func restore() async throws -> (id: String, outcome: RestoreOutcome) {
    let settings = try repository.settings()
    let source = try await settings.restoreSource()
    let repository = source.repository
    let destination = try destination(settings)
    let target = try target()
    let timeline = try TimelineArgument.parse(timeline)
    let manifest = try await source.backup { repository in
      if let backup {
        return try await repository.catalog(of: settings.component).backup(id: backup, of: settings.component)
      }
      return try await settings.backup(in: repository, for: target, following: timeline)
    }
    let recovery = RecoverySettings(
      restoreCommand: restoreCommand ?? FetchCommand.make(config: self.repository.config), timeline: timeline)
    // WAL that another command gets from elsewhere is not ours to look at.
    let archive =
      skipWalCheck || restoreCommand != nil ? nil : try settings.archive(of: manifest, in: repository.tier)
    var restorer = PostgresRestorer(
      dataFolder: destination, recovery: recovery, archive: archive, tablespaces: try mapping(),
      replacesExisting: replace, owner: owner, progress: ProgressBar("restore").handler)
    restorer.readsWAL = readWal
    restorer.onReach = { reach in
      print(
        "recovers from \(reach.backup), through timeline \(reach.timelines.map(String.init).joined(separator: ", then ")), to "
          + PostgresTarget.text(target))
    }
    let outcome = try await restorer.restore(
      from: try await source.reader(for: manifest, logger: self.repository.logger), to: target,
      logger: self.repository.logger)
    return (manifest.id, outcome)
  }

  /// An unset variable of a script is no destination, and neither is what the restore reads from.
  private func destination(_ settings: RepositoryConfiguration) throws -> String {
    try settings.refuseDestination(to, config: repository.config)
    if !TierPlace.isBucket(settings.repository) {
      // Of what lies in one, the library takes care.
      let repository = URL(fileURLWithPath: settings.repository).resolvingSymlinksInPath().path
      for (_, place) in try mapping() {
        let place = URL(fileURLWithPath: place).resolvingSymlinksInPath().path
        guard !"\(repository)/".hasPrefix("\(place)/") else {
          throw DRError(
            .destinationInUse, "a tablespace would lie around the repository, or be it: nothing was touched",
            advice: "map it to a folder of its own", object: place)
        }
      }
    }
    return URL(fileURLWithPath: to).path
  }

  private func target() throws -> RecoveryTarget {
    try PostgresTarget.parse(time: targetTime, lsn: targetLsn, name: targetName, immediate: immediate)
  }

  private func mapping() throws -> [String: String] {
    var mapping: [String: String] = [:]
    for text in tablespaces {
      let parts = text.split(separator: "=", maxSplits: 1)
      guard parts.count == 2 else {
        throw DRError(.invalidConfiguration, "'\(text.prefix(100))' is not OLD=NEW")
      }
      mapping[String(parts[0])] = String(parts[1])
    }
    return mapping
  }
}
