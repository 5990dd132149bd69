import ArgumentParser
import DRCore
import DRPostgres
import ExampleSupport

/// Verifies the stored bytes of a backup.
struct Verify: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Reads a backup and checks every digest.",
    discussion: "Looks at the backup's own bytes. Whether WAL leads on from it, check-wal says.")

  @OptionGroup var repository: RepositoryArguments

  @Argument(help: "The backup; the newest unless said.")
  var backup: String?

  @Flag(help: "A logical dump.")
  var dumps = false

  @Option(help: "metadata: everything is there with its size. data: every byte is read and digested.")
  var level = "data"

  func run() async throws {
    try await repository.audited("verify", object: backup, isReading: true) { line in
      let settings = try repository.settings()
      let component = dumps ? try settings.component.dumps : settings.component
      try await settings.verify(backup, of: component, level: level, on: line, logger: repository.logger, and: recorded)
    }
  }

  /// What the backup itself says is wrong with it, and what this command does not look at.
  private func recorded(_ manifest: BackupManifest) -> [Finding] {
    var findings = manifest.damagedPages.map {
      Finding(
        "page-checksum", .warning, subject: manifest.id, evidence: "the server's file was damaged already: \($0)",
        advice: "restore what lies there from an earlier backup")
    }
    guard manifest.method == .basebackup else { return findings }
    findings.append(
      Finding(
        "wal-restorable", .notice, subject: manifest.id,
        evidence: manifest.properties["walIncluded"] == .bool(true)
          ? "it holds the WAL that it needs itself; how far more WAL leads was not looked at"
          : "it needs WAL from the archive, which was not looked at", advice: "see dr-postgres check-wal"))
    return findings
  }
}
