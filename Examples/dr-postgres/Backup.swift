import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import ExampleSupport

/// Takes a base backup.
struct Backup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Takes a base backup.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Option(help: "Where the backup lies in the tree: hourly, daily, weekly or monthly.")
  var cadence = "daily"

  @Option(help: "zstd:1 to zstd:19, gzip:1 to gzip:12, or none.")
  var compression = "zstd:1"

  @Option(parsing: .unconditional, help: "How many frames are compressed at once.")
  var workers = 2

  @Flag(help: "Put the needed WAL into the backup itself, where no receiver and no archive_command runs.")
  var includeWal = false

  @Option(parsing: .unconditional, help: "Seconds to wait for the needed WAL to be in the archive.")
  var walTimeout = 300.0

  @Option(parsing: .unconditional, help: "Bytes a second at most.")
  var maxRate: Int?

  @Flag(help: "Go on although the last backup is of another system: after an upgrade, or a new cluster in its place.")
  var newSystem = false

  @Flag(help: "Keep a backup with damaged pages, and list them in its manifest.")
  var recordDamagedPages = false

  func validate() throws {
    _ = try usage { (try CompressionArgument.parse(compression), try Cadence(parsing: cadence)) }
    try allow("--workers", workers, 1...64)
    // The protocol's own bounds of MAX_RATE: 32 kB to 1 GB a second.
    if let maxRate, !(32_768...1_073_741_824).contains(maxRate) {
      throw ValidationError("--max-rate is 32768 to 1073741824 bytes a second")
    }
    guard walTimeout > 0 else { throw ValidationError("--wal-timeout is more than 0 seconds") }
  }

  func run() async throws {
    try await repository.audited("backup") { line in
      let manifest = try await endingInGoodOrder(saying: "nothing was committed") { try await backUp() }
      line.concerns(manifest.id)
      print(
        "\(manifest.id) committed: \(Format.bytes(manifest.rawSize)) stored as \(Format.bytes(manifest.storedSize)), "
          + "restorable from \(Timestamp.format(manifest.recoveryPoint.time)) (LSN \(manifest.recoveryPoint.position))")
      let damaged = manifest.damagedPages
      if !damaged.isEmpty {
        print("\(damaged.count) DAMAGED pages are in it: see the manifest")
        throw ExitCode(1)
      }
    }
  }

  private func backUp() async throws -> BackupManifest {
    let protected = try await ProtectedServer(repository, server)
    if !newSystem { try await protected.refuseOtherSystem() }
    var encoding = try protected.settings.encoding(compression: try CompressionArgument.parse(compression))
    encoding.workers = workers
    var source = PostgresBaseBackup(
      component: protected.settings.component, server: protected.connection, requiredWAL: .included)
    if !includeWal {
      let archive = try await protected.archive(encoding: encoding)
      source.requiredWAL = .archived(archive, within: .seconds(walTimeout))
    }
    source.maximumRate = maxRate
    source.damagedPages = recordDamagedPages ? .record : .fail
    source.progress = ProgressBar("backup").handler
    return try await Repository(tier: protected.tier).backUp(
      source, cadence: try Cadence(parsing: cadence), encoding: encoding, logger: repository.logger)
  }
}
