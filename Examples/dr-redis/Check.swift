import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import DRVerify
import ExampleSupport
import Foundation

/// Checks the server's own persistence against the plan, the bytes of the newest snapshot, and the change log.
struct Check: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Checks the server's persistence against the plan, the newest snapshot's bytes, and the change log.")

  @OptionGroup var repository: RepositoryArguments
  @OptionGroup var server: ServerArguments

  @Flag(inversion: .prefixedNo, help: "The server must keep an append-only file, synced every second.")
  var appendOnly = true

  @Option(parsing: .unconditional, help: "maxmemory, in bytes.")
  var maxMemory: Int64?

  @Option(help: "maxmemory-policy.")
  var policy: String?

  @Option(parsing: .unconditional, help: "How many replicas must be in sync.")
  var replicas: Int?

  @Option(
    parsing: .unconditional,
    help: "Seconds since the last stored change after which a change log that is behind the server is a warning.")
  var mostBehind = 60.0

  @Flag(help: "Only the repository, not the server.")
  var repositoryOnly = false

  func validate() throws {
    try allow("--max-memory", maxMemory, 0...1_000_000_000_000_000)
    try allow("--replicas", replicas, 0...1000)
    try allow("--most-behind", mostBehind, 0...604_800)
  }

  func run() async throws {
    try await reporting {
      let settings = try repository.settings()
      let tier = try await settings.tier(creating: false, probing: .reading)
      let repository = Repository(tier: tier)
      let logger = self.repository.logger
      var findings: [Finding] = []
      if !repositoryOnly {
        var expectation = RedisPersistenceCheck.Expectation()
        expectation.appendOnly = appendOnly
        expectation.maximumMemory = maxMemory
        expectation.evictionPolicy = policy
        expectation.replicas = replicas
        let server = try await server.connection(logger)
        findings += try await RedisPersistenceCheck(server, expectation: expectation).verify(logger: logger)
        findings += try await RedisLogLagCheck(
          archive: try settings.archive(tier), server: server, limit: .seconds(mostBehind)
        ).verify(logger: logger)
      }
      let catalog = try await repository.catalog(of: settings.component)
      let manifest = try catalog.backup(of: settings.component, for: .latest)
      findings += try await BackupVerifier(manifest, in: repository, decoding: try settings.decoding())
        .verify(logger: logger)
      findings += try await RedisLogCheck(archive: try settings.archive(tier), backups: catalog.backups)
        .verify(logger: logger)
      findings += catalog.unreadable.map {
        Finding(
          "manifest-readable", .failure, subject: $0.key.rawValue, evidence: $0.error.message, advice: $0.error.advice)
      }
      for finding in findings { print(finding) }
      if findings.contains(where: { $0.severity == .failure }) { throw ExitCode(1) }
    }
  }
}
