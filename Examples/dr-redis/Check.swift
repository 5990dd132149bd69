import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

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
      let logger = self.repository.logger
      var look = Look()
      let tier = try await settings.tier(creating: false, probing: .reading)
      let repository = Repository(tier: tier)
      // Without an identity, what is encrypted is looked at from outside.
      let decoding = try await look.trying { _ in try settings.decoding() } ?? Decoding()
      let archive = try settings.archive(tier, decoding)
      if !repositoryOnly { try await look.trying { try await lookAtServer(archive, logger, &$0) } }
      guard let catalog = try await look.trying({ _ in try await repository.catalog(of: settings.component) }) else {
        return try look.end()
      }
      let isClosed = decoding.identities.isEmpty && catalog.backups.contains { $0.isEncrypted }
      try await look.trying { look in
        let manifest = try catalog.backup(of: settings.component, for: .latest)
        look.add(
          try await BackupVerifier(
            manifest, in: repository, level: isClosed ? .metadata : .data, decoding: decoding
          ).verify(logger: logger))
      }
      try await look.trying { look in
        look.add(
          try await RedisLogCheck(archive: archive, backups: catalog.backups, readsAll: !isClosed).verify(
            logger: logger))
      }
      look.add(
        catalog.unreadable.map {
          Finding(
            "manifest-readable", .failure, subject: $0.key.rawValue, evidence: $0.error.message,
            advice: $0.error.advice)
        })
      if isClosed {
        look.errors.append(
          DRError(
            .noMatchingIdentity, "what is encrypted was not read: no identity was given",
            advice: "name a file with it in the configuration (identityFile)", component: settings.component))
      }
      try look.end()
    }
  }

  private func lookAtServer(_ archive: RedisLogArchive, _ logger: Logger, _ look: inout Look) async throws {
    var expectation = RedisPersistenceCheck.Expectation()
    expectation.appendOnly = appendOnly
    expectation.maximumMemory = maxMemory
    expectation.evictionPolicy = policy
    expectation.replicas = replicas
    let server = try await server.connection(logger)
    look.add(try await RedisPersistenceCheck(server, expectation: expectation).verify(logger: logger))
    look.add(
      try await RedisLogLagCheck(archive: archive, server: server, limit: .seconds(mostBehind)).verify(logger: logger))
  }
}

/// Goes on where one thing could not be looked at, and says so at its end.
private struct Look {
  var errors: [DRError] = []
  private var hasFailed = false

  mutating func add(_ findings: [Finding]) {
    for finding in findings { print(finding) }
    hasFailed = hasFailed || findings.contains { $0.severity == .failure }
  }

  /// - Returns: Nil if it could not look.
  @discardableResult
  mutating func trying<Result>(_ work: (inout Look) async throws -> Result) async throws -> Result? {
    do {
      return try await work(&self)
    } catch let error as DRError {
      errors.append(error)
      return nil
    }
  }

  /// - Throws: `ExitCode`.
  func end() throws {
    for error in errors { FileHandle.standardError.write(Data("error: \(DRError.text(of: error))\n".utf8)) }
    if hasFailed { throw ExitCode(1) }
    if !errors.isEmpty { throw ExitCode(2) }
  }
}

extension BackupManifest {
  fileprivate var isEncrypted: Bool { artifacts.contains { !$0.recipients.isEmpty } }
}
