import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport

/// Restores a tree, or parts of it.
struct Restore: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restores a tree, or parts of it: into a new folder, or in place.")

  @OptionGroup var repository: RepositoryArguments

  @Argument(help: "The backup; the newest unless said.")
  var backup: String?

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

  @Option(help: "The newest backup that was complete at this moment, with a time zone: '2026-11-23 12:00:00+00'.")
  var targetTime: String?

  @Flag(help: "Restore set-user-ID bits, capabilities and other attributes that give power.")
  var privileges = false

  @Option(
    name: .customLong("secret"), help: "Take what this pattern matches for a secret. May be given several times.")
  var secrets: [String] = []

  func validate() throws {
    _ = try usage {
      (try target(), try PathSelection(included: paths), try SecretJudge(SecretRules(patterns: secrets)))
    }
    guard backup == nil || targetTime == nil else {
      throw ValidationError("a backup and a moment were given: give one of them")
    }
  }

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let source = try await settings.restoreSource()
      let manifest = try await repository.backup(backup, for: try target(), in: source.repository)
      let reader = source.reader(for: manifest, logger: repository.logger)
      var restorer = FileTreeRestorer(
        destination: absolute(to), placement: inPlace ? .inPlace : .newFolder, paths: paths)
      restorer.restoresPrivileges = privileges
      restorer.secrets.patterns += secrets
      if dryRun {
        let diff = try await restorer.diff(from: reader, logger: repository.logger)
        for entry in diff.entries { print(entry) }
        print("\(manifest.id): \(diff.entries.count) would change, \(diff.same) are there already")
        return
      }
      restorer.progress = ProgressBar("restore").handler
      let report = try await endingInGoodOrder(saying: "nothing was restored") { [restorer, repository] in
        try await restorer.run(from: reader, logger: repository.logger)
      }
      print(
        "\(manifest.id): \(report.outcome.items) files and links, \(Format.bytes(report.outcome.bytes)), restored in "
          + Format.duration(report.outcome.duration))
      if inPlace { print("\(report.added) new, \(report.replaced) replaced, \(report.same) were there already") }
      if let aside = report.movedAside { print("what was replaced is in \(aside)") }
      for finding in report.findings { print(finding) }
    }
  }

  private func target() throws -> RecoveryTarget {
    try RecoveryTarget(immediate: false, time: targetTime, position: nil)
  }
}
