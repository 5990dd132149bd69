import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import DRVerify
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
    try await reporting {
      guard let level = BackupVerifier.Level(rawValue: level) else {
        throw ValidationError("'\(level.prefix(40))' is no level: metadata or data")
      }
      let settings = try repository.settings()
      let repository = Repository(tier: try await settings.tier(creating: false, probing: .reading))
      let component = dumps ? try settings.component.dumps : settings.component
      let catalog = try await repository.catalog(of: component)
      let manifest =
        try backup.map { try catalog.backup(id: $0, of: component) } ?? catalog.backup(of: component, for: .latest)
      let report = await VerificationReport.run(
        manifest.id,
        BackupVerifier(
          manifest, in: repository, level: level, decoding: try settings.decoding(),
          progress: ProgressBar("verify").handler), logger: self.repository.logger)
      for finding in report.findings + recorded(manifest) { print(finding) }
      // The newest backup may be one whose manifest is damaged: what was verified is an older one then.
      let damaged = backup == nil ? catalog.unreadable : []
      for broken in damaged {
        print(
          Finding(
            "manifest-readable", .failure, subject: broken.key.rawValue, evidence: "\(broken.error.message)",
            advice: broken.error.advice))
      }
      print("\(manifest.id): \(report.verdict.rawValue)" + (report.obstacle.map { ": \($0)" } ?? ""))
      if report.verdict != .passed { throw ExitCode(report.verdict.exitCode) }
      if !damaged.isEmpty { throw ExitCode(Verdict.failed.exitCode) }
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
