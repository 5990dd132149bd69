import ArgumentParser
import DRCore
import DRFiles
import DRStorage
import ExampleSupport

/// Says of the certificates in a backup until when they are valid, and whether their keys fit.
struct Certificates: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says of the certificates in a backup until when they are valid, and whether their keys fit.",
    discussion: "Ends with 1 if one has ended or soon will, or does not fit its key.")

  @OptionGroup var repository: RepositoryArguments

  @Argument(help: "The backup; the newest unless said.")
  var backup: String?

  @Option(parsing: .unconditional, help: "Days that a certificate must be valid yet.")
  var within = 30

  func validate() throws {
    try allow("--within", within, 0...36_500)
  }

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let store = Repository(tier: try await settings.tier(creating: false))
      let manifest = try await repository.backup(backup, in: store)
      let findings = CertificateCheck(manifest, margin: .seconds(within * 86_400)).findings()
      for finding in findings { print(finding) }
      if findings.contains(where: { $0.severity >= .warning }) { throw ExitCode(1) }
    }
  }
}
