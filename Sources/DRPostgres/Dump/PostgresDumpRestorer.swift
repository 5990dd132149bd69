public import DRCore
import DRSandbox
import Foundation
public import Logging
import NIOCore

/// Restores a ``PostgresDump`` into a running server, by `pg_restore` or `psql`, streamed.
///
/// The stored bytes are read and compared with the manifest before anything is changed in the server. The database is made
/// new, or is there and holds nothing of a user's, unless ``allowsData``. Each statement commits by itself unless
/// ``isOneTransaction``: what a restore has done that failed half way is there, and the error says so.
public struct PostgresDumpRestorer: Restorer {
  /// What to do when a statement fails.
  public enum OnError: Hashable, Sendable {
    case stop
    /// Go on, and fail at the end with the number of them: what could be restored is there.
    case goOn
  }

  /// What the triggers of tables that are there do, when only rows are restored into them.
  public enum Triggers: Hashable, Sendable {
    /// They fire, and may change what comes back.
    case fire
    /// They are switched off for as long as the rows come, foreign keys among them: for a superuser.
    case disable
  }

  /// A server to restore into; its database is not looked at.
  public var server: PostgresConnectionSettings
  /// Where to. It is made if it is not there.
  public var database: String
  /// Which artifact to restore from; nil: the custom one, else the directory's, else the plain one.
  public var format: DumpFormat?
  /// Which objects, by their names as SQL reads them; what belongs to a table comes along (constraints, indexes, defaults, triggers, sequences,
  /// partitions), and into a database that is made new also what it needs (types, functions). Foreign keys to and from tables that
  /// are not among them are left out. Not of a plain dump: `psql` cannot choose.
  public var selection: DumpSelection
  /// Restore into a database that holds tables already; none of them is dropped or emptied.
  public var allowsData: Bool
  /// First restore roles and tablespaces; those that are there are left as they are.
  public var restoresGlobals: Bool
  /// How many connections restore side by side, 1 to 64. More than one needs room for the dump in the temporary folder.
  public var jobs: Int
  public var onError: OnError
  /// Nil: rows alone are not restored into tables whose triggers would fire.
  public var triggers: Triggers?
  /// All or nothing; with one job.
  public var isOneTransaction: Bool
  /// Leave out who owns what: everything belongs to the role that restores.
  public var omitsOwners: Bool
  /// Leave out grants.
  public var omitsPrivileges: Bool
  /// How long the program may take nothing more, and how long it may go on once it has all, as while it builds indexes. With more
  /// than one job, or from a directory: how long it may take altogether.
  public var silenceLimit: Duration = .seconds(6 * 3600)

  public init(
    server: PostgresConnectionSettings, database: String, format: DumpFormat? = nil,
    selection: DumpSelection = DumpSelection(), allowsData: Bool = false, restoresGlobals: Bool = false, jobs: Int = 1,
    onError: OnError = .stop, isOneTransaction: Bool = false, omitsOwners: Bool = false, omitsPrivileges: Bool = false
  ) {
    self.server = server
    self.database = database
    self.format = format
    self.selection = selection
    self.allowsData = allowsData
    self.restoresGlobals = restoresGlobals
    self.jobs = jobs
    self.onError = onError
    self.isOneTransaction = isOneTransaction
    self.omitsOwners = omitsOwners
    self.omitsPrivileges = omitsPrivileges
  }

  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    let start = ContinuousClock.now
    do {
      let dump = try artifact(of: reader.manifest, target)
      try check(dump.format)
      try await reader.verify(dump.artifact)
      let globals = try restoresGlobals ? reader.manifest.artifact(PostgresDump.globals) : nil
      if let globals { try await reader.verify(globals) }
      let destination = DumpDestination(server: server, database: database, allowsData: allowsData)
      let tables = try await DumpFolder.with { folder in
        switch dump.format {
        case .plain: break
        case .custom where jobs == 1: break
        case .custom: try await folder.spool(try await reader.read(dump.artifact))
        case .directory:
          try await folder.extract(try await reader.read(dump.artifact), object: dump.artifact.key.rawValue)
        }
        // A name that is not there is found before the database is made.
        let contents = try await contents(of: dump, reader, folder)
        _ = try contents?.choose(tables: selection.tables, schemas: selection.schemas, needs: false)
        let (version, isNew) = try await destination.prepare(for: reader.manifest, logger: logger)
        if selection.parts == .dataOnly, triggers == nil { try await destination.refuseTriggers(logger: logger) }
        if let globals { try await restore(globals, reader, version, logger) }
        let choice = try contents?.choose(tables: selection.tables, schemas: selection.schemas, needs: isNew)
        for key in choice?.leftOut ?? [] {
          logger.warning(
            "a foreign key was left out: its other table is not among what is restored", metadata: ["key": "\(key)"])
        }
        let list = try choice.map { ["--use-list=\(try folder.note($0.list))"] } ?? []
        switch dump.format {
        case .plain: try await psql(dump.artifact, reader, version)
        case .custom where jobs == 1: try await pgRestore(list, try await reader.read(dump.artifact), version)
        case .custom, .directory: try await pgRestore(list + ["--jobs=\(jobs)", folder.path], nil, version)
        }
        return choice?.tables
      }
      return RestoreOutcome(
        bytes: dump.artifact.rawSize, items: tables ?? reader.manifest.properties["tables"]?.object?.count ?? 0,
        duration: start.duration(to: .now))
    } catch var error as DRError {
      error.component = error.component ?? reader.manifest.component
      throw error
    }
  }

  /// What a dump holds, as `pg_restore --list` says it: one line an object. Not of a plain dump, which is read as text.
  ///
  /// - Throws: ``DRError``: as ``restore(from:to:logger:)``.
  public static func list(_ reader: any BackupReader) async throws -> String {
    guard let artifact = reader.manifest.artifacts.first(where: { $0.name.hasSuffix(".dump") }) else {
      throw DRError(
        .invalidConfiguration, "the backup has no dump in the custom format, which alone can be listed",
        object: reader.manifest.id)
    }
    let program = try await ClientProgram.find(
      "pg_restore", server: reader.manifest.serverVersion.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0)
    let said = try await runProgram(
      program.path, ["--list"], input: try await reader.read(artifact), silence: .seconds(600))
    guard said.status == 0 else {
      throw DRError(.programFailed, "pg_restore ended with \(said.status): \(said.error.lastLines(5))")
    }
    return said.output
  }

  // MARK: What is asked

  private func artifact(
    of manifest: BackupManifest, _ target: RecoveryTarget
  ) throws -> (artifact: BackupManifest.Artifact, format: DumpFormat) {
    guard manifest.method == .dump,
      let source = manifest.properties["database"]?.string
    else { throw DRError(.invalidConfiguration, "backup \(manifest.id) is no dump of a PostgreSQL database") }
    guard target == .latest else {
      throw DRError(
        .targetUnreachable,
        "a dump is of one moment, \(Timestamp.format(manifest.recoveryPoint.time)), and leads to no other",
        advice: "restore a base backup for that", object: manifest.id)
    }
    let wanted = format.map { [$0] } ?? [.custom, .directory(jobs: 1), .plain]
    for format in wanted {
      let name = format.artifact(of: source)
      if let artifact = manifest.artifacts.first(where: { $0.name == name }) { return (artifact, format) }
    }
    throw DRError(
      .objectNotFound, "the backup has no dump in this format",
      advice: "it has \(manifest.artifacts.map(\.name).joined(separator: ", "))", object: manifest.id)
  }

  private func check(_ format: DumpFormat) throws {
    func refuse(_ what: String) -> DRError { DRError(.invalidConfiguration, what) }
    guard (1...64).contains(jobs) else { throw refuse("jobs must be 1 to 64") }
    guard selection.excludedTables.isEmpty, selection.excludedData.isEmpty else {
      throw refuse("a restore cannot leave tables out: name those that it shall bring")
    }
    guard !(isOneTransaction && (jobs > 1 || onError == .goOn)) else {
      throw refuse("one transaction has one job, and stops at the first error")
    }
    guard format == .plain else { return }
    guard selection.isEverything, !omitsOwners, !omitsPrivileges, jobs == 1 else {
      throw DRError(
        .invalidConfiguration, "a plain dump comes back as it is: nothing can be chosen or left out of it",
        advice: "take the dump in the custom format for that")
    }
  }

  /// Nil if nothing is chosen by name.
  private func contents(
    of dump: (artifact: BackupManifest.Artifact, format: DumpFormat), _ reader: any BackupReader, _ folder: DumpFolder
  ) async throws -> DumpContents? {
    guard !selection.tables.isEmpty || !selection.schemas.isEmpty else { return nil }
    let program = try await ClientProgram.find(
      "pg_restore", server: reader.manifest.serverVersion.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0)
    let arguments = ["--list", "--verbose"]
    let said =
      if dump.format == .custom, jobs == 1 {
        try await runProgram(
          program.path, arguments, input: try await reader.read(dump.artifact), silence: .seconds(600))
      } else {
        try await runProgram(program.path, arguments + [folder.path], limit: .seconds(600))
      }
    guard said.status == 0 else {
      throw DRError(.programFailed, "pg_restore ended with \(said.status): \(said.error.lastLines(5))")
    }
    return DumpContents(parsing: said.output)
  }

  // MARK: Programs

  private var connection: String { "--dbname=\(server.with(database: database).conninfoForPrograms)" }

  private func pgRestore(_ more: [String], _ content: ByteStream?, _ version: Int) async throws {
    let program = try await ClientProgram.find("pg_restore", server: version)
    var arguments = ["--no-password", connection] + selection.parts.arguments
    if triggers == .disable { arguments.append("--disable-triggers") }
    if onError == .stop { arguments.append("--exit-on-error") }
    if isOneTransaction { arguments.append("--single-transaction") }
    if omitsOwners { arguments.append("--no-owner") }
    if omitsPrivileges { arguments.append("--no-privileges") }
    let environment = ClientProgram.environment(server)
    let result =
      if let content {
        try await runProgram(
          program.path, arguments + more, environment: environment, input: content, silence: silenceLimit)
      } else {
        try await runProgram(program.path, arguments + more, environment: environment, limit: silenceLimit)
      }
    // Told to go on, it counts them at the end; without that, something else has ended it.
    try judge(
      result, "pg_restore", isComplete: result.status == 0 || result.error.contains("errors ignored on restore:"))
  }

  private func psql(_ artifact: BackupManifest.Artifact, _ reader: any BackupReader, _ version: Int) async throws {
    let program = try await ClientProgram.find("psql", server: version)
    var arguments = ["--no-psqlrc", "--quiet", "--no-password", connection, "--file=-", "--output=/dev/null"]
    if onError == .stop { arguments.append("--set=ON_ERROR_STOP=1") }
    if isOneTransaction { arguments.append("--single-transaction") }
    let result = try await runProgram(
      program.path, arguments, environment: ClientProgram.environment(server), input: try await reader.read(artifact),
      silence: silenceLimit)
    try judge(result, "psql", isComplete: result.status == 0)
  }

  /// Roles and tablespaces; those that are there are no error.
  private func restore(
    _ globals: BackupManifest.Artifact, _ reader: any BackupReader, _ version: Int, _ logger: Logger
  ) async throws {
    let program = try await ClientProgram.find("psql", server: version)
    let result = try await runProgram(
      program.path,
      ["--no-psqlrc", "--quiet", "--no-password", connection, "--file=-", "--output=/dev/null"],
      environment: ClientProgram.environment(server), input: try await reader.read(globals), silence: silenceLimit)
    let errors = result.error.errors.filter { !$0.contains("already exists") }
    if result.status != 0 || !errors.isEmpty {
      throw DRError(
        .programFailed, "roles and tablespaces could not be restored: \(errors.first ?? result.error.lastLines(3))",
        advice: "make them by hand, and restore without them")
    }
  }

  private func judge(_ result: ProgramResult, _ program: String, isComplete: Bool) throws {
    let errors = result.error.errors
    guard result.status != 0 || !errors.isEmpty else { return }
    let first = errors.first ?? result.error.lastLines(3)
    switch onError {
    case .goOn where isComplete:
      throw DRError(
        .programFailed, "\(errors.count) statements failed, and the rest was restored; the first: \(first)",
        advice: "what is there is not the whole: see the server's log for all of them", object: database)
    case .goOn, .stop:
      throw DRError(
        .programFailed, "\(program) ended with \(result.status): \(first)",
        advice: isOneTransaction
          ? "nothing was restored into the database"
          : "what it had restored until then is there: drop the database before the next attempt, or give --one-transaction",
        object: database)
    }
  }
}

extension String {
  /// The lines that say that a statement failed.
  fileprivate var errors: [String] {
    split(separator: "\n").filter { $0.contains("ERROR: ") || $0.contains(": error: ") || $0.contains("FATAL: ") }
      .map { $0.trimmingCharacters(in: .whitespaces) }
  }
}
