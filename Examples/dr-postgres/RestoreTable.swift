import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import ExampleSupport
import Foundation

/// Brings one table back from a base backup and its WAL.
struct RestoreTable: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Brings one table back as it was at a moment, from a base backup and its WAL, into a running server.",
    discussion: """
      The cluster is recovered in a sandbox on this host, which needs room for it and is gone afterwards. The configuration must be \
      readable for the user that its server runs as (postgres, where root runs this).
      """)

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Option(help: "The table: NAME or SCHEMA.NAME, quoted as SQL needs it.")
  var table: String

  @Option(help: "The database of the running server; the connection's unless said.")
  var database: String?

  @Option(help: "As it was at this moment: '2026-11-23 12:00:00+00'. None is the latest.")
  var targetTime: String?

  @Option(help: "As it was at this LSN.")
  var targetLsn: String?

  @Option(help: "As it was at a restore point of this name.")
  var targetName: String?

  @Option(help: "The backup; unless said the newest that reaches the target.")
  var backup: String?

  @Option(help: "The timeline to follow: latest, current, or a number.")
  var timeline: String?

  @Option(help: "The name of the new table; NAME_restored_<now> unless said.")
  var into: String?

  @Flag(
    help:
      "Put the rows in the place of the table's own, which are kept as NAME_before_<now>; make a table again that is gone."
  )
  var inPlace = false

  @Option(help: "A superuser of the cluster that was backed up.")
  var superuser = "postgres"

  @Option(help: "Where the sandbox is made; the temporary folder unless said.")
  var sandboxFolder: String?

  func validate() throws {
    _ = try usage { (try target(), try TimelineArgument.parse(timeline)) }
    guard !(inPlace && into != nil) else { throw ValidationError("give --into or --in-place, not both") }
  }

  func run() async throws {
    try await repository.audited("restore", object: "table \(table)") { line in
      let (id, report) = try await endingInGoodOrder(saying: "nothing was changed in the server") {
        try await recover()
      }
      line.concerns("\(id) to table \(report.table)")
      print("\(report.table) holds \(report.rows) rows of \(id)")
      if let former = report.former { print("kept: \(former)") }
    }
  }

  private func recover() async throws -> (id: String, report: PostgresTableRecovery.Report) {
    let settings = try repository.settings()
    let source = try await settings.restoreSource()
    let repository = source.repository
    let (target, timeline) = (try target(), try TimelineArgument.parse(timeline))
    let manifest = try await source.backup { repository in
      if let backup {
        return try await repository.catalog(of: settings.component).backup(id: backup, of: settings.component)
      }
      return try await settings.backup(in: repository, for: target, following: timeline)
    }
    var connection = try server.connection()
    if let database { connection = connection.with(database: database) }
    var sandbox = PostgresSandbox.Options()
    sandbox.superuser = superuser
    sandbox.parentFolder = sandboxFolder
    var recovery = PostgresTableRecovery(
      server: connection, table: table, placement: inPlace ? .inPlace : .beside(into),
      restoreCommand: FetchCommand.make(config: self.repository.config),
      archive: try settings.archive(of: manifest, in: repository.tier), sandbox: sandbox)
    recovery.timeline = timeline
    recovery.rehearsal = FetchCommand.make(
      config: self.repository.config, systemIdentifier: manifest.systemIdentifier)
    recovery.progress = ProgressBar("restore").handler
    let report = try await recovery.recover(
      from: try await source.reader(for: manifest, logger: self.repository.logger), to: target,
      logger: self.repository.logger)
    return (manifest.id, report)
  }

  private func target() throws -> RecoveryTarget {
    try PostgresTarget.parse(time: targetTime, lsn: targetLsn, name: targetName, immediate: false)
  }
}
