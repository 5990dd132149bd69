import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport

/// Takes a backup of a tree.
struct CaptureFiles: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "capture", abstract: "Takes a backup of a folder, or of what patterns match in it.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var tree: TreeArguments

  @Option(help: "Where the backup lies in the tree: hourly, daily, weekly or monthly.")
  var cadence = "daily"

  @Flag(
    help: """
      Leave the content of files that have not changed where the last backup has it. A restore finds it by itself. Needs the key of an \
      encrypted repository.
      """)
  var incremental = false

  @Option(help: "Backups that may hang together by --incremental; the next one is whole.")
  var chainLimit = 24

  func validate() throws {
    try allow("--chain-limit", chainLimit, 1...1000)
    _ = try usage { try Cadence(parsing: cadence) }
  }

  func run() async throws {
    try await repository.audited("backup") { line in
      let manifest = try await endingInGoodOrder(saying: "nothing was committed") { try await capture() }
      line.concerns(manifest.id)
      say(manifest)
    }
  }

  private func capture() async throws -> BackupManifest {
    let settings = try repository.settings()
    try settings.warnOfPlaintext()
    let store = Repository(tier: try await settings.tier(creating: false))
    var source = tree.source(of: settings.component)
    source.isIncremental = incremental
    if incremental {
      let backups = try await store.catalog(of: settings.component).backups
      source.since = try backups.newestToGoOnFrom(limit: chainLimit) { $0.method == .files }.map {
        store.reader(for: $0, decoding: try settings.decoding())
      }
    }
    return try await store.backUp(
      source, cadence: try Cadence(parsing: cadence),
      encoding: try settings.encoding(), logger: repository.logger, progress: ProgressBar("capture").handler)
  }
}

/// What a backup holds, and what of it needs somebody's attention.
///
/// - Returns: The findings about its certificates, of which those that were said before are not said again.
@discardableResult
func say(_ manifest: BackupManifest, except said: Set<Finding> = []) -> Set<Finding> {
  func count(_ name: String) -> Int64 { manifest.properties[name]?.integer ?? 0 }
  print(
    "\(manifest.id) committed: \(count("files")) files, \(count("secrets")) of them secrets, "
      + "\(count("folders")) folders, \(count("links")) links, \(Format.bytes(count("bytes"))) stored as "
      + Format.bytes(manifest.storedSize))
  if let parent = manifest.parent { print("\(count("unchanged")) of them have not changed since \(parent)") }
  for omission in manifest.leftOut { print("left out: \(omission.what): \(omission.reason)") }
  if count("changedCount") > 0 { print("changed while they were read: \(count("changedCount")) files") }
  let findings = CertificateCheck(manifest).findings().filter { $0.severity >= .warning }
  for finding in findings where !said.contains(finding) { print(finding) }
  return Set(findings)
}
