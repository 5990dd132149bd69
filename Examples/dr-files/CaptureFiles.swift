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

  @Argument(help: "The folder.", completion: .directory)
  var root: String

  @Argument(
    help: """
      Names, paths or globs below it, as .gitignore has them: '.env' and '*.conf' at any depth, 'certs/*.pem' at its place. \
      None: everything.
      """)
  var patterns: [String] = []

  @Option(name: .customLong("exclude"), help: "Leave out what this pattern matches. May be given several times.")
  var excluded: [String] = []

  @Option(
    name: .customLong("secret"), help: "Take what this pattern matches for a secret. May be given several times.")
  var secrets: [String] = []

  @Option(parsing: .unconditional, help: "Leave out files of more bytes, and say so.")
  var largestFile: Int64?

  @Flag(help: "Go into folders where another file system is mounted.")
  var crossFileSystems = false

  @Flag(help: "Leave out what may not be read, and say so, rather than fail.")
  var leaveOutUnreadable = false

  @Option(help: "Where the backup lies in the tree: hourly, daily, weekly or monthly.")
  var cadence = "daily"

  func validate() throws {
    _ = try usage {
      (
        try Cadence(parsing: cadence), try PathSelection(included: patterns, excluded: excluded),
        try SecretJudge(SecretRules(patterns: secrets))
      )
    }
    try allow("--largest-file", largestFile, 0...1_000_000_000_000_000)
  }

  func run() async throws {
    try await reporting {
      let manifest = try await endingInGoodOrder(saying: "nothing was committed") { try await capture() }
      func count(_ name: String) -> Int64 { manifest.properties[name]?.integer ?? 0 }
      print(
        "\(manifest.id) committed: \(count("files")) files, \(count("secrets")) of them secrets, "
          + "\(count("folders")) folders, \(count("links")) links, \(Format.bytes(count("bytes"))) stored as "
          + Format.bytes(manifest.storedSize))
      for omission in manifest.leftOut { print("left out: \(omission.what): \(omission.reason)") }
      if count("changedCount") > 0 { print("changed while they were read: \(count("changedCount")) files") }
    }
  }

  private func capture() async throws -> BackupManifest {
    let settings = try repository.settings()
    try settings.warnOfPlaintext()
    let store = Repository(tier: try await settings.tier(creating: false))
    var source = FileTreeSource(
      component: settings.component, root: absolute(root), included: patterns, excluded: excluded)
    source.largestFile = largestFile
    source.crossesFileSystems = crossFileSystems
    source.unreadable = leaveOutUnreadable ? .leaveOut : .fail
    source.secrets.patterns += secrets
    return try await store.backUp(
      source, cadence: try Cadence(parsing: cadence), encoding: try settings.encoding(), logger: repository.logger,
      progress: ProgressBar("capture").handler)
  }
}
