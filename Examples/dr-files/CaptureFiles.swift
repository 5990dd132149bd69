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

  func validate() throws {
    _ = try usage { try Cadence(parsing: cadence) }
  }

  func run() async throws {
    try await reporting {
      say(try await endingInGoodOrder(saying: "nothing was committed") { try await capture() })
    }
  }

  private func capture() async throws -> BackupManifest {
    let settings = try repository.settings()
    try settings.warnOfPlaintext()
    let store = Repository(tier: try await settings.tier(creating: false))
    return try await store.backUp(
      tree.source(of: settings.component), cadence: try Cadence(parsing: cadence),
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
  for omission in manifest.leftOut { print("left out: \(omission.what): \(omission.reason)") }
  if count("changedCount") > 0 { print("changed while they were read: \(count("changedCount")) files") }
  let findings = CertificateCheck(manifest).findings().filter { $0.severity >= .warning }
  for finding in findings where !said.contains(finding) { print(finding) }
  return Set(findings)
}
