public import DRCore
import DRSandbox
import Foundation
public import Logging
import NIOCore

/// A logical backup of one database by the server's own `pg_dump`, and of roles and tablespaces by `pg_dumpall`, streamed into
/// the writer without a temporary file (``DumpFormat/directory(jobs:)`` excepted).
///
/// All formats, and the row counts, are of one snapshot, whose position and time are the recovery point. Artifacts: one for
/// each format, and `globals.sql`. What the programs warn of is in the manifest's properties under `warnings`; a program that
/// fails, or a dump that is cut short, fails the capture.
///
/// A dump holds what it holds: no WAL leads on from it. Keep dumps as a component of their own beside the base backups, of a kind of
/// their own: `postgres-dump/app`.
public struct PostgresDump: BackupSource {
  public let component: Component
  public var server: PostgresConnectionSettings
  /// The database to dump.
  public var database: String
  public var formats: [DumpFormat]
  public var selection: DumpSelection
  /// Also dump roles, their passwords' hashes, and tablespaces, which belong to no database. The role must be a superuser;
  /// without passwords (``omitsRolePasswords``) any role will do. Hashes are kept only in a backup that is encrypted: in another one they
  /// are left out, and the manifest says so.
  public var includesGlobals: Bool
  public var omitsRolePasswords: Bool
  /// Count the rows of every table in the same snapshot, for a later comparison: it reads all of them.
  public var countsRows: Bool
  /// How long a table may stay locked by others.
  public var lockLimit: Duration = .seconds(300)
  /// How long `pg_dump` may write nothing, as while it sorts or waits.
  public var silenceLimit: Duration = .seconds(1800)
  public var progress: ProgressHandler?

  public init(
    component: Component, server: PostgresConnectionSettings, database: String, formats: [DumpFormat] = [.custom],
    selection: DumpSelection = DumpSelection(), includesGlobals: Bool = true, omitsRolePasswords: Bool = false,
    countsRows: Bool = true
  ) {
    self.component = component
    self.server = server.with(database: database)
    self.database = database
    self.formats = formats
    self.selection = selection
    self.includesGlobals = includesGlobals
    self.omitsRolePasswords = omitsRolePasswords
    self.countsRows = countsRows
  }

  public func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    do {
      guard !formats.isEmpty, Set(formats.map { $0.artifact(of: database) }).count == formats.count else {
        throw DRError(.invalidConfiguration, "name each format of a dump once, and at least one")
      }
      guard database.utf8.count <= 63, !database.isEmpty, !database.contains("/"), !database.hasPrefix(".") else {
        throw DRError(
          .invalidConfiguration, "a database of this name cannot be stored as an artifact", object: database)
      }
      var settings = server
      settings.timeLimit = silenceLimit
      return try await PostgresConnection.withConnection(settings, logger: logger) { connection in
        try await capture(connection, into: writer, logger)
      }
    } catch var error as DRError {
      error.component = error.component ?? component
      throw error
    }
  }

  private func capture(
    _ connection: PostgresConnection, into writer: any BackupWriter, _ logger: Logger
  ) async throws -> Capture {
    let version = try await connection.serverVersionNumber / 10_000
    let program = try await ClientProgram.find("pg_dump", server: version)
    // The snapshot lives as long as this transaction, which is idle while the programs work. Rows that a policy would hide
    // are an error.
    try await connection.query(
      "SET idle_in_transaction_session_timeout = 0; SET row_security = off; SET lock_timeout = '\(lockMilliseconds)ms'")
    try await connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    let snapshot = try await DumpSnapshot(connection)
    logger.info(
      "dump started", metadata: ["postgres.lsn": "\(snapshot.position)", "backup.id": "\(writer.backupID)"])
    let meter = progress.map { ProgressMeter(database, total: snapshot.size, handler: $0) }
    var warnings: [String] = []
    for format in formats {
      warnings += try await dump(format, snapshot, program, into: writer, meter)
    }
    if includesGlobals { warnings += try await globals(version, into: writer, meter) }
    let tables = try await snapshot.tables(connection, counting: countsRows)
    let nature = try await DumpSnapshot.nature(connection)
    try await connection.query("COMMIT")
    meter?.finish()
    for warning in warnings { logger.warning("the dump's program warns", metadata: ["postgres.message": "\(warning)"]) }
    var properties: [String: JSONValue] = [
      "database": .string(database), "tables": .object(tables), "program": .string("pg_dump \(program.majorVersion)"),
    ]
    properties.merge(nature) { first, _ in first }
    if !warnings.isEmpty { properties["warnings"] = .array(warnings.map { .string($0) }) }
    return Capture(
      recoveryPoint: RecoveryPoint(
        time: snapshot.time, position: "\(snapshot.position)", history: snapshot.timeline.map(String.init)),
      method: .dump, serverVersion: try await connection.parameterStatus("server_version"),
      systemIdentifier: snapshot.systemIdentifier, leftOut: omissions(isEncrypted: writer.encrypts),
      properties: properties)
  }

  private var lockMilliseconds: Int64 { max(1, min(lockLimit.components.seconds, 86_400)) * 1000 }

  private func omissions(isEncrypted: Bool) -> [BackupManifest.Omission] {
    var all = [
      BackupManifest.Omission(
        what: "settings and grants of the database itself", reason: "a dump is of what is in it; make them anew")
    ]
    all += (selection.excludedTables + selection.excludedData).map {
      BackupManifest.Omission(what: $0, reason: "it was excluded")
    }
    if !selection.schemas.isEmpty || !selection.tables.isEmpty {
      all.append(BackupManifest.Omission(what: "other schemas and tables", reason: "only some were asked for"))
    }
    switch selection.parts {
    case .all: break
    case .schemaOnly: all.append(BackupManifest.Omission(what: "rows", reason: "only definitions were asked for"))
    case .dataOnly: all.append(BackupManifest.Omission(what: "definitions", reason: "only rows were asked for"))
    }
    if !includesGlobals {
      all.append(BackupManifest.Omission(what: "roles and tablespaces", reason: "they belong to no database"))
    } else if omitsRolePasswords {
      all.append(BackupManifest.Omission(what: "passwords of roles", reason: "they were not asked for"))
    } else if !isEncrypted {
      all.append(BackupManifest.Omission(what: "passwords of roles", reason: "the backup is not encrypted"))
    }
    return all
  }

  // MARK: Programs

  /// Returns what the program warned of.
  private func dump(
    _ format: DumpFormat, _ snapshot: DumpSnapshot, _ program: ClientProgram, into writer: any BackupWriter,
    _ meter: ProgressMeter?
  ) async throws -> [String] {
    let name = format.artifact(of: database)
    meter?.begin(name)
    let arguments =
      [
        "--no-password", "--snapshot=\(snapshot.identity)",
        "--lock-wait-timeout=\(lockMilliseconds)",
      ] + selection.arguments
    let connection = ["--dbname=\(server.conninfoForPrograms)"]
    switch format {
    case .custom:
      return try await store(
        name, program.path, arguments + ["--format=custom", "--compress=0"] + connection, DumpEnds.custom, writer, meter
      )
    case .plain:
      return try await store(
        name, program.path, arguments + ["--format=plain"] + connection, DumpEnds.plain, writer, meter)
    case .directory(let jobs):
      return try await DumpFolder.with { folder in
        let said = try await runProgram(
          program.path,
          arguments + ["--format=directory", "--compress=0", "--jobs=\(jobs)", "--file=\(folder.path)"] + connection,
          environment: ClientProgram.environment(server), limit: .seconds(7 * 86_400))
        guard said.status == 0 else {
          throw DRError(.programFailed, "pg_dump ended with \(said.status): \(said.error.lastLines(5))")
        }
        try await writer.write(name, metered(folder.tar(), meter), expectedLength: nil)
        return said.error.warnings
      }
    }
  }

  private func globals(
    _ version: Int, into writer: any BackupWriter, _ meter: ProgressMeter?
  ) async throws -> [String] {
    let program = try await ClientProgram.find("pg_dumpall", server: version)
    meter?.begin(PostgresDump.globals)
    let more = omitsRolePasswords || !writer.encrypts ? ["--no-role-passwords"] : []
    return try await store(
      PostgresDump.globals, program.path,
      ["--globals-only", "--no-password", "--dbname=\(server.conninfoForPrograms)"] + more, DumpEnds.globals, writer,
      meter)
  }

  static let globals = "globals.sql"

  private func store(
    _ name: String, _ program: String, _ arguments: [String], _ ends: DumpEnds, _ writer: any BackupWriter,
    _ meter: ProgressMeter?
  ) async throws -> [String] {
    try await withOutput(
      of: program, arguments, environment: ClientProgram.environment(server), silence: silenceLimit
    ) { content in
      try await writer.write(name, metered(ends.checking(content, name), meter), expectedLength: nil)
    }.error.warnings
  }

  private func metered(_ content: ByteStream, _ meter: ProgressMeter?) -> ByteStream {
    guard let meter else { return content }
    return ByteStream {
      var iterator = content.makeAsyncIterator()
      guard let buffer = try await iterator.next() else { return nil }
      meter.add(buffer.readableBytes)
      return buffer
    }
  }
}

extension String {
  /// The lines of a program's standard error, which it writes when something is worth knowing.
  fileprivate var warnings: [String] {
    split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }.suffix(100).map { $0 }
  }
}
