import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import ExampleSupport

/// Restores a logical dump into a running server.
struct RestoreDump: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restores a dump into a database of a running server, which is made if it is not there.",
    discussion: "The stored dump is read and compared with its manifest before anything is changed in the server.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Option(help: "The database to restore into.")
  var toDatabase: String?

  @Option(help: "The dump; the newest unless said.")
  var backup: String?

  @Option(help: "custom, plain or directory; what there is unless said.")
  var format: String?

  @Flag(help: "Only print what the dump holds.")
  var list = false

  @Option(help: "Only these schemas, with all that is in them. May be given several times.")
  var schema: [String] = []

  @Option(help: "Only these tables (agents, public.agents), with what belongs to them. May be given several times.")
  var table: [String] = []

  @Flag(help: "Only definitions.")
  var schemaOnly = false

  @Flag(help: "Only rows.")
  var dataOnly = false

  @Option(
    help: "With --data-only: whether the triggers of tables that are there fire, or are disabled meanwhile (superuser)."
  )
  var triggers: String?

  @Flag(help: "The database holds tables already: none of them is dropped or emptied.")
  var intoExisting = false

  @Flag(help: "First restore roles and tablespaces; those that are there are left as they are.")
  var globals = false

  @Option(parsing: .unconditional, help: "How many connections restore side by side.")
  var jobs = 1

  @Flag(help: "Go on when a statement fails; exit 2 at the end, with their number.")
  var goOn = false

  @Flag(help: "All or nothing.")
  var oneTransaction = false

  @Flag(help: "Everything belongs to the role that restores.")
  var noOwner = false

  @Flag(help: "Leave out grants.")
  var noPrivileges = false

  func validate() throws {
    try allow("--jobs", jobs, 1...64)
    _ = try usage { try format.map(DumpFormat.init(argument:)) }
    guard list || toDatabase != nil else { throw ValidationError("give --to-database, or --list") }
    guard triggers.map({ ["fire", "disable"].contains($0) && dataOnly }) ?? true else {
      throw ValidationError("--triggers is fire or disable, with --data-only")
    }
    guard !(schemaOnly && dataOnly) else { throw ValidationError("give --schema-only or --data-only, not both") }
  }

  func run() async throws {
    try await repository.audited(list ? "list" : "restore", object: "dump", isReading: list) { _ in
      let settings = try repository.settings()
      let source = try await settings.restoreSource()
      let component = try settings.component.dumps
      let manifest = try await source.backup { repository in
        let catalog = try await repository.catalog(of: component)
        return try backup.map { try catalog.backup(id: $0, of: component) }
          ?? catalog.backup(of: component, for: .latest)
      }
      let reader = try await source.reader(for: manifest, logger: self.repository.logger)
      if list {
        print(try await PostgresDumpRestorer.list(reader), terminator: "")
        return
      }
      var restorer = PostgresDumpRestorer(
        server: try server.connection(), database: toDatabase ?? "", format: try format.map(DumpFormat.init(argument:)),
        selection: DumpSelection(
          schemas: schema, tables: table, parts: DumpSelection.Parts(schemaOnly: schemaOnly, dataOnly: dataOnly)),
        allowsData: intoExisting, restoresGlobals: globals, jobs: jobs)
      restorer.onError = goOn ? .goOn : .stop
      restorer.triggers = triggers.map { $0 == "fire" ? .fire : .disable }
      restorer.isOneTransaction = oneTransaction
      restorer.omitsOwners = noOwner
      restorer.omitsPrivileges = noPrivileges
      let outcome = try await endingInGoodOrder(saying: "what was restored until then is in the database") {
        [restorer] in
        try await restorer.restore(from: reader, to: .latest, logger: self.repository.logger)
      }
      let what =
        table.isEmpty && schema.isEmpty
        ? "\(Format.bytes(outcome.bytes)) of SQL and rows"
        : "\(schemaOnly ? "the definition of what was chosen" : "\(outcome.items) tables of what was chosen")"
      print(
        "\(manifest.id) restored into \(toDatabase ?? ""): \(what) in "
          + "\(Format.duration(outcome.duration)), as of \(Timestamp.format(manifest.recoveryPoint.time))")
    }
  }
}
