import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import ExampleSupport

/// Takes a logical dump.
struct Dump: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Dumps a database with the server's own pg_dump, streamed into the repository.",
    discussion: "Dumps are kept as a component of their own, postgres-dump/NAME: list and verify them with --dumps.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Option(help: "The database.")
  var database: String

  @Option(help: "custom, plain, or directory:JOBS. May be given several times: all are of one snapshot.")
  var format: [String] = ["custom"]

  @Option(help: "Only these schemas: pg_dump's pattern. May be given several times.")
  var schema: [String] = []

  @Option(help: "Only these tables.")
  var table: [String] = []

  @Option(help: "Leave out these tables.")
  var excludeTable: [String] = []

  @Option(help: "Leave out the rows of these tables.")
  var excludeData: [String] = []

  @Flag(help: "Only definitions.")
  var schemaOnly = false

  @Flag(help: "Only rows.")
  var dataOnly = false

  @Flag(help: "Leave out roles and tablespaces, which belong to no database.")
  var noGlobals = false

  @Flag(help: "Leave out the passwords of roles: for a role that is no superuser.")
  var noRolePasswords = false

  @Flag(help: "Do not count rows: it reads every table once more.")
  var noRowCounts = false

  @Option(help: "Where the dump lies in the tree: hourly, daily, weekly or monthly.")
  var cadence = "daily"

  @Option(help: "zstd:1 to zstd:19, gzip:1 to gzip:12, or none.")
  var compression = "zstd:1"

  @Option(parsing: .unconditional, help: "How many frames are compressed at once.")
  var workers = 2

  func validate() throws {
    _ = try usage { (try CompressionArgument.parse(compression), try Cadence(parsing: cadence), try formats()) }
    try allow("--workers", workers, 1...64)
    guard !(schemaOnly && dataOnly) else { throw ValidationError("give --schema-only or --data-only, not both") }
  }

  func run() async throws {
    try await repository.audited("backup", object: "dump") { line in
      let manifest = try await endingInGoodOrder(saying: "nothing was committed") { try await dump() }
      line.concerns("dump \(manifest.id)")
      print(
        "\(manifest.id) committed: \(Format.bytes(manifest.rawSize)) stored as \(Format.bytes(manifest.storedSize)), "
          + "as of \(Timestamp.format(manifest.recoveryPoint.time)) (LSN \(manifest.recoveryPoint.position))")
      for warning in manifest.properties["warnings"]?.array?.compactMap(\.string) ?? [] { print("warning: \(warning)") }
    }
  }

  private func dump() async throws -> BackupManifest {
    let protected = try await ProtectedServer(repository, server)
    var encoding = try protected.settings.encoding(compression: try CompressionArgument.parse(compression))
    encoding.workers = workers
    var source = PostgresDump(
      component: try protected.settings.component.dumps, server: protected.connection, database: database,
      formats: try formats(),
      selection: DumpSelection(
        schemas: schema, tables: table, excludedTables: excludeTable, excludedData: excludeData,
        parts: DumpSelection.Parts(schemaOnly: schemaOnly, dataOnly: dataOnly)),
      includesGlobals: !noGlobals, omitsRolePasswords: noRolePasswords, countsRows: !noRowCounts)
    source.progress = ProgressBar("dump").handler
    return try await Repository(tier: protected.tier).backUp(
      source, cadence: try Cadence(parsing: cadence), encoding: encoding, logger: repository.logger)
  }

  private func formats() throws -> [DumpFormat] { try format.map(DumpFormat.init(argument:)) }
}

extension Component {
  /// The component of the dumps beside the base backups of this one: neither is taken for the other, by a restore or by retention.
  var dumps: Component { get throws { try Component(Kind("postgres-dump"), name) } }
}

extension DumpFormat {
  init(argument: String) throws {
    switch argument {
    case "custom": self = .custom
    case "plain": self = .plain
    case "directory": self = .directory(jobs: 2)
    default:
      guard argument.hasPrefix("directory:"), let jobs = Int(argument.dropFirst(10)), (1...64).contains(jobs) else {
        throw DRError(
          .invalidConfiguration, "'\(argument.prefix(40))' is no format", advice: "custom, plain, or directory:JOBS")
      }
      self = .directory(jobs: jobs)
    }
  }
}

extension DumpSelection.Parts {
  init(schemaOnly: Bool, dataOnly: Bool) { self = schemaOnly ? .schemaOnly : dataOnly ? .dataOnly : .all }
}
