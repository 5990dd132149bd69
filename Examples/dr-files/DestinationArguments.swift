import ArgumentParser
import DRCore
import DRFiles
import ExampleSupport
import Logging

/// Where a tree is restored to, and which part of it.
struct DestinationArguments: ParsableArguments {
  @Option(help: "The folder: a new one, unless --in-place.", completion: .directory)
  var to: String

  @Flag(
    help: "The folder is there: replace what the backup holds, and keep the old files in .dr-before-<time> within it.")
  var inPlace = false

  @Flag(help: "Only show what would change; the backup is read and checked whole.")
  var dryRun = false

  @Option(
    name: .customLong("path"), help: "Only this name, path or glob, as capture takes it. May be given several times.")
  var paths: [String] = []

  @Flag(help: "Restore set-user-ID bits, capabilities and other attributes that give power.")
  var privileges = false

  @Option(
    name: .customLong("secret"), help: "Take what this pattern matches for a secret. May be given several times.")
  var secrets: [String] = []

  func validate() throws {
    _ = try usage { (try PathSelection(included: paths), try SecretJudge(SecretRules(patterns: secrets))) }
  }

  func restore(_ reader: any BackupReader, _ logger: Logger) async throws {
    let id = reader.manifest.id
    var restorer = FileTreeRestorer(
      destination: absolute(to), placement: inPlace ? .inPlace : .newFolder, paths: paths)
    restorer.restoresPrivileges = privileges
    restorer.secrets.patterns += secrets
    if dryRun {
      let diff = try await restorer.diff(from: reader, logger: logger)
      for entry in diff.entries { print(entry) }
      let conflicts = diff.entries.filter { $0.change == .conflict }
      print(
        "\(id): \(diff.entries.count - conflicts.count) would change, \(diff.same) are there already"
          + (conflicts.isEmpty ? "" : ", \(conflicts.count) are in the way"))
      guard let first = conflicts.first else { return }
      throw DRError(
        .destinationInUse, "a restore would be refused: \(first.detail), and it would not be replaced",
        advice: "move it away, or restore into a new folder", object: first.path)
    }
    restorer.progress = ProgressBar("restore").handler
    let report = try await endingInGoodOrder(saying: "nothing was restored") { [restorer] in
      try await restorer.run(from: reader, logger: logger)
    }
    print(
      "\(id): \(report.outcome.items) files and links, \(Format.bytes(report.outcome.bytes)), restored in "
        + Format.duration(report.outcome.duration))
    if inPlace { print("\(report.added) new, \(report.replaced) replaced, \(report.same) were there already") }
    if let aside = report.movedAside { print("what was replaced is in \(aside)") }
    for finding in report.findings { print(finding) }
  }
}
