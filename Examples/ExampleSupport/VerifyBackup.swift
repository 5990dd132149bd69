public import ArgumentParser
public import DRCore
public import DRStorage
import DRVerify
public import Logging

/// Verifies the stored bytes of a backup.
public struct VerifyBackup<Program: BackupProgram>: AsyncParsableCommand {
  public static var configuration: CommandConfiguration {
    CommandConfiguration(
      commandName: "verify", abstract: "Reads a backup and checks every digest.",
      discussion:
        "Exit codes: 0 verified, 1 not as it should be, 2 it could not be looked at. Nothing is written but a line in the audit trail."
    )
  }

  @OptionGroup var repository: RepositoryArguments<Program>

  @Argument(help: "The backup; the newest unless said.")
  var backup: String?

  @Option(help: "metadata: everything is there with its size. data: every byte is read and digested.")
  var level = "data"

  public init() {}

  public func run() async throws {
    try await repository.audited("verify", object: backup, isReading: true) { line in
      let settings = try repository.settings()
      try await settings.verify(backup, of: settings.component, level: level, on: line, logger: repository.logger)
    }
  }
}

extension RepositoryConfiguration {
  /// Verifies the stored bytes of a backup, and says what was found.
  ///
  /// - Parameters:
  ///   - backup: Its identity; nil: the newest.
  ///   - level: A ``DRVerify/BackupVerifier/Level``, as it was typed.
  ///   - line: Of the audit trail: it is told which backup it was.
  ///   - more: What is known of it besides.
  ///   - others: Looks at what belongs to the component besides its backups, such as its change log.
  /// - Throws: `ValidationError` for what is no level; an `ExitCode` unless it passed; ``DRError`` if it could not look.
  public func verify(
    _ backup: String?, of component: Component, level: String, on line: AuditLine? = nil, logger: Logger,
    and more: (BackupManifest) -> [Finding] = { _ in [] },
    others: (Repository, Catalog) async throws -> [Finding] = { _, _ in [] }
  ) async throws {
    guard let level = BackupVerifier.Level(rawValue: level) else {
      throw ValidationError("'\(level.prefix(40))' is no level: metadata or data")
    }
    let store = Repository(tier: try await tier(creating: false, probing: .reading))
    let catalog = try await store.catalog(of: component)
    let manifest =
      try backup.map { try catalog.backup(id: $0, of: component) } ?? catalog.backup(of: component, for: .latest)
    line?.concerns(manifest.id)
    let report = await VerificationReport.run(
      manifest.id,
      BackupVerifier(
        manifest, in: store, level: level, decoding: try decoding(), progress: ProgressBar("verify").handler),
      logger: logger)
    for finding in report.findings + more(manifest) { print(finding) }
    let besides = try await others(store, catalog)
    for finding in besides { print(finding) }
    // The newest backup may be one whose manifest is damaged: what was verified is an older one then.
    let damaged = backup == nil ? catalog.unreadable : []
    for broken in damaged {
      print(
        Finding(
          "manifest-readable", .failure, subject: broken.key.rawValue, evidence: "\(broken.error.message)",
          advice: broken.error.advice))
    }
    // The last line must not say that all is well while one above it says that something is not.
    let isLacking = !damaged.isEmpty || besides.contains { $0.severity == .failure }
    let said = report.verdict.rawValue + (report.obstacle.map { ": \($0)" } ?? "")
    print("\(manifest.id): \(said)" + (isLacking && report.verdict == .passed ? ", but see the failures above" : ""))
    if report.verdict != .passed { throw ExitCode(report.verdict.exitCode) }
    if isLacking { throw ExitCode(Verdict.failed.exitCode) }
  }
}
