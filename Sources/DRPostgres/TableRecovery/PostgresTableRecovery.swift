public import DRCore
import DRSandbox
import Foundation
public import Logging
import NIOCore

/// Brings one table back from a base backup and its WAL, as it was at a moment, into a running server: beside the table that
/// is there, or in its place.
///
/// The whole cluster is recovered in a sandbox that reaches nothing outside and is gone afterwards; the table's rows go from
/// there into the server in one transaction, by `pg_dump` and `psql`, without a file in between. When this returns, they are
/// committed; when it throws, nothing was changed in the server. Killed, it may leave a table `…_restored_…` beside an
/// untouched one.
public struct PostgresTableRecovery: Sendable {
  /// Where the recovered rows go.
  public enum Placement: Hashable, Sendable {
    /// A new table in the same schema, without foreign keys, triggers and defaults: to look at, and to take rows from. Nil:
    /// the table's name with `_restored_` and the moment.
    case beside(String?)
    /// The rows of the table itself, which are kept in another table with `_before_` and the moment in its name. Columns must
    /// be the same; triggers do not fire; foreign keys to and from it must hold afterwards, or nothing is changed. A table
    /// that is not there is made again, with everything that belongs to it.
    case inPlace
  }

  /// What came back.
  public struct Report: Hashable, Sendable {
    /// Where the rows are, quoted as SQL needs it.
    public var table: String
    public var rows: Int64
    /// Where the former rows are; nil if there were none to replace.
    public var former: String?
  }

  /// A running server, its database the one that the table belongs to.
  public var server: PostgresConnectionSettings
  /// `table` or `schema.table`, as SQL reads it: quoted where it must be.
  public var table: String
  public var placement: Placement
  /// How the sandbox's server gets WAL, as in ``RecoverySettings/restoreCommand``; nil for a backup that holds its own.
  public var restoreCommand: String?
  /// As ``restoreCommand``, but to be run anywhere: tried out as the sandbox's user before anything is restored, for that user may not be
  /// able to read what this process reads. Nil: not tried.
  public var rehearsal: String?
  public var timeline: RecoverySettings.Timeline?
  /// Looked at before anything is restored; see ``PostgresRestorer/archive``.
  public var archive: WALArchive?
  /// How the sandbox is made; its superuser must be one of the backup's.
  public var sandbox: PostgresSandbox.Options
  /// How long the sandbox's server may take to recover.
  public var recoveryLimit: Duration = .seconds(6 * 3600)
  public var progress: ProgressHandler?

  public init(
    server: PostgresConnectionSettings, table: String, placement: Placement = .beside(nil), restoreCommand: String?,
    archive: WALArchive? = nil, sandbox: PostgresSandbox.Options = PostgresSandbox.Options()
  ) {
    self.server = server
    self.table = table
    self.placement = placement
    self.restoreCommand = restoreCommand
    self.archive = archive
    self.sandbox = sandbox
  }

  /// - Throws: ``DRError``: as ``PostgresRestorer``; `objectNotFound` if the table was not there at that moment;
  ///   `destinationInUse` if the new table's name is taken; `invalidConfiguration` if the columns differ; `sourceFailed` and
  ///   `programFailed` naming what the server refused.
  public func recover(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> Report {
    do {
      let live = try await LiveTable(server, table, logger)
      if case .beside(let name?) = placement { try await live.refuseTaken(name) }
      let sandbox = try await PostgresSandbox.prepare(sandbox, logger: logger)
      return try await PostgresSandbox.with(sandbox) { sandbox in
        try await restore(reader, into: sandbox, to: target, logger)
        let copy = RecoveredTable(sandbox: sandbox, database: live.database, table: table, logger: logger)
        return try await bring(copy, live, logger)
      }
    } catch var error as DRError {
      error.component = error.component ?? reader.manifest.component
      throw error
    }
  }

  private func restore(
    _ reader: any BackupReader, into sandbox: PostgresSandbox, to target: RecoveryTarget, _ logger: Logger
  ) async throws {
    let home = (sandbox.dataFolder as NSString).deletingLastPathComponent
    var spaces: [String: String] = [:]
    for (oid, location) in reader.manifest.properties["tablespaces"]?.object ?? [:] {
      if let location = location.string { spaces[location] = "\(home)/space-\(oid)" }
    }
    try await tryOut(as: sandbox.user)
    let restorer = PostgresRestorer(
      dataFolder: sandbox.dataFolder, recovery: RecoverySettings(restoreCommand: restoreCommand, timeline: timeline),
      archive: archive, tablespaces: spaces, owner: sandbox.user?.name, progress: progress)
    _ = try await restorer.restore(from: reader, to: target, logger: logger)
    try await sandbox.start(until: .promoted, limit: recoveryLimit)
  }

  private func tryOut(as user: ServerUser?) async throws {
    guard let rehearsal else { return }
    let file = FileManager.default.temporaryDirectory.appending(path: "dr-no-history-\(UUID().uuidString)").path
    let command = rehearsal.replacing("%%", with: "\u{0}").replacing("%f", with: "FFFFFFFE.history")
      .replacing("%p", with: file).replacing("%r", with: "000000010000000000000001").replacing("\u{0}", with: "%")
    let said = try await runProgram("/bin/sh", ["-c", command], as: user, limit: .seconds(120))
    try? FileManager.default.removeItem(atPath: file)
    // As the server sees it: what is not there is 1, or whatever else is no signal and no failure of the shell.
    guard said.status >= 126 else { return }
    throw DRError(
      .invalidConfiguration,
      "the restore command cannot be run\(user.map { " by the user \($0.name), as which the sandbox's server runs" } ?? ""): "
        + said.error.lastLines(3),
      advice: "let that user read the configuration, the repository and the key, or run this as a user who can")
  }

  private func bring(_ copy: RecoveredTable, _ live: LiveTable, _ logger: Logger) async throws -> Report {
    guard let found = try await copy.name() else {
      throw DRError(
        .objectNotFound, "there was no table \(table) in the database \(live.database) at that moment",
        advice: "choose another moment; see how the name is written, with its schema", object: table)
    }
    let stamp = Timestamp.compact(Date()).lowercased()
    switch placement {
    case .beside(let name):
      let new: TableName
      if let name {
        new = TableName(schema: found.schema, name: name)
        try await live.refuseTaken(new.name)
      } else {
        new = try await live.free(found, "_restored_\(stamp)")
      }
      let rows = try await copy.stage(as: new)
      try await live.load(from: copy, new, isPlain: true)
      return Report(table: new.sql, rows: rows, former: nil)
    case .inPlace:
      guard try await live.exists() else {
        let rows = try await copy.count(found)
        try await live.load(from: copy, found, isPlain: false)
        return Report(table: found.sql, rows: rows, former: nil)
      }
      try await live.refuseOtherColumns(try await copy.columns(found))
      let new = try await live.free(found, "_restored_\(stamp)")
      let former = try await live.free(found, "_before_\(stamp)")
      let rows = try await copy.stage(as: new)
      try await live.load(from: copy, new, isPlain: true)
      do {
        try await live.replaceRows(of: found, from: new, keeping: former)
      } catch {
        await Task { try? await live.drop(new) }.value
        throw error
      }
      return Report(table: found.sql, rows: rows, former: former.sql)
    }
  }
}
