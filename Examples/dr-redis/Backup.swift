import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import ExampleSupport
import Foundation

/// Takes a snapshot.
struct Backup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Takes a snapshot, as a replica takes it.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Option(help: "Where the backup lies in the tree: hourly, daily, weekly or monthly.")
  var cadence = "hourly"

  @Flag(help: "All shards of the cluster that the server belongs to, at one moment.")
  var cluster = false

  @Option(help: "Take this RDB file instead of a server's data.")
  var file: String?

  @Option(help: "Where data waits in the clear while the repository is slower than the server; $TMPDIR unless said.")
  var spoolFolder: String?

  func validate() throws {
    guard !cluster || file == nil else { throw ValidationError("a file is of no cluster") }
    _ = try usage { try Cadence(parsing: cadence) }
  }

  func run() async throws {
    try await repository.audited("backup") { line in
      let manifest = try await endingInGoodOrder(saying: "nothing was committed") { try await backUp() }
      line.concerns(manifest.id)
      print(
        "\(manifest.id) committed: \(manifest.properties["keys"]?.integer ?? 0) keys, "
          + "\(Format.bytes(manifest.rawSize)) stored as \(Format.bytes(manifest.storedSize)), "
          + "offset \(manifest.recoveryPoint.position)")
      for omission in manifest.leftOut { print("left out: \(omission.what): \(omission.reason)") }
    }
  }

  private func backUp() async throws -> BackupManifest {
    let settings = try repository.settings()
    try settings.warnOfPlaintext()
    let tier = try await settings.tier(creating: false)
    return try await Repository(tier: tier).backUp(
      try await source(settings.component, try settings.archive(tier)), cadence: try Cadence(parsing: cadence),
      encoding: try settings.encoding(),
      logger: repository.logger)
  }

  private func source(_ component: Component, _ archive: RedisLogArchive) async throws -> any BackupSource {
    var source: RedisSnapshot
    if let file {
      source = RedisSnapshot(component: component, file: file)
    } else {
      let server = try await server.connection(repository.logger)
      if cluster {
        var source = RedisClusterSnapshot(component: component, node: server)
        source.spool.folder = spoolFolder
        return source
      }
      source = RedisSnapshot(component: component, server: server)
      source.archive = archive
    }
    source.spool.folder = spoolFolder
    source.progress = ProgressBar("backup").handler
    return source
  }
}
