import ArgumentParser
import DRCore
import DRRedis
import DRStorage
import ExampleSupport
import Foundation

/// How far to restore.
struct TargetArguments: ParsableArguments {
  @Option(help: "The moment, with a time zone: '2026-11-23 12:00:00+00'. Give one target at most; none is the latest.")
  var targetTime: String?

  @Option(help: "The replication offset, or <replication ID>:<offset>.")
  var targetOffset: String?

  @Flag(help: "The snapshot alone, without the changes after it.")
  var immediate = false

  func validate() throws { _ = try target() }

  func target() throws -> RecoveryTarget {
    if let targetOffset, ReplicationPosition(parsing: targetOffset) == nil, Int64(targetOffset).map({ $0 < 0 }) ?? true
    {
      throw ValidationError(
        "'\(targetOffset.prefix(60))' is no position of Redis: write the offset, or <replication ID>:<offset>")
    }
    return try usage { try RecoveryTarget(immediate: immediate, time: targetTime, position: targetOffset) }
  }
}

extension RepositoryConfiguration {
  /// The backup of that name, or the newest that reaches the target. Warns on standard error of manifests that cannot be read.
  func redisBackup(
    _ name: String?, in repository: Repository, for target: RecoveryTarget
  ) async throws -> BackupManifest {
    let catalog = try await repository.catalog(of: component)
    if let name { return try catalog.backup(id: name, of: component) }
    catalog.warnOfUnreadable()
    if case .position(let position) = target {
      return try await archive(repository.tier).backup(at: position, in: catalog)
    }
    return try catalog.backup(of: component, for: target)
  }
}
