import ArgumentParser
import DRCore
import DRPostgres
import DRStorage
import DRVerify
import ExampleSupport

/// Says for each backup through which moment it can be restored, and names every gap.
struct CheckWAL: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check-wal",
    abstract: "Says for each backup through which moment it can be restored, and names every gap.",
    discussion: "Looks at the WAL. The backups' own bytes are looked at by verify.")

  @OptionGroup var repository: RepositoryArguments

  @Flag(help: "Also read, decrypt and digest every segment. Without, names and the ends of the log are looked at.")
  var readAll = false

  @Option(help: "The timeline that production is on; the newest unless said.")
  var timeline: UInt32?

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let tier = try await settings.tier(creating: false, probing: .reading)
      let catalog = try await Repository(tier: tier).catalog(of: settings.component)
      let systems = Set(catalog.backups.compactMap(\.systemIdentifier)).sorted()
      var worst = Verdict.passed
      for broken in catalog.unreadable {
        print("\(broken.id) cannot be read: \(broken.error)")
        worst = .failed
      }
      guard !systems.isEmpty || worst != .passed else {
        throw DRError(.targetUnreachable, "there is no backup to check", component: settings.component)
      }
      for system in systems {
        let archive = try WALArchive(
          tier: tier, component: settings.component, systemIdentifier: system, decoding: try settings.decoding())
        let check = WALCheck(
          archive: archive, backups: catalog.backups.filter { $0.systemIdentifier == system }, readsAll: readAll,
          timeline: timeline)
        let report = await VerificationReport.run("system \(system)", check, logger: repository.logger)
        for finding in report.findings { print(finding) }
        if !readAll {
          print(
            Finding(
              "wal-read", .notice, subject: system,
              evidence: "only names and the ends of the log were looked at, not the content of all other segments",
              advice: "for that, --read-all"))
        }
        print("system \(system): \(report.verdict.rawValue)" + (report.obstacle.map { ": \($0)" } ?? ""))
        if report.verdict.exitCode > worst.exitCode { worst = report.verdict }
      }
      if worst != .passed { throw ExitCode(worst.exitCode) }
    }
  }
}
