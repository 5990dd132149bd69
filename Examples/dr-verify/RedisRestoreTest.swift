import DRCore
import DRRedis
import DRStorage
import DRVerify
import ExampleSupport
import Foundation

/// Restores Redis into a sandbox, and looks at it.
struct RedisRestoreTest {
  private let settings: RepositoryConfiguration
  private let options: RestoreTestOptions

  init(_ settings: RepositoryConfiguration, _ options: RestoreTestOptions) {
    self.settings = settings
    self.options = options
  }

  func run() async throws -> [Finding] {
    let (logger, target) = (options.logger, options.target)
    var phases = RestorePhases(limit: options.limit)
    let source = try await settings.restoreSource()
    let component = settings.component
    let manifest = try await phases.measure("find the backup") {
      try await source.backup { try await $0.catalog(of: component).backup(of: component, for: target) }
    }
    let archive = RedisLogArchive(
      tier: source.repository.tier, component: component, encoding: try settings.encoding(),
      decoding: try settings.decoding())
    let sandbox = try await phases.measure("start an empty server") {
      try await RedisSandbox.create(RedisSandbox.Options(appendOnly: true), logger: logger)
    }
    var findings = try await RedisSandbox.with(sandbox) { sandbox in
      let reader = try await source.reader(for: manifest, logger: logger)
      let restorer = RedisOnlineRestorer(server: sandbox.settings, archive: archive)
      let report = try await phases.measure("check, serve, replay, promote, on its disk") {
        try await restorer.restoreServer(from: reader, to: target, logger: logger)
      }
      let probes = RedisProbes(
        sandbox.settings, manifest: manifest, includesChanges: report.commands > 0, samples: options.baseline.redis)
      let seen = try await phases.measure("first right answers: counts, types, samples, hits") {
        try await probes.verify(logger: logger)
      }
      return [
        Finding(
          "restore", .passed, subject: manifest.id,
          evidence: "\(report.keys) keys, after \(report.commands) changes, to offset \(report.reached.position)")
      ] + options.findings(of: phases) + (try await sandbox.harmlessness(logger: logger)) + seen
    }
    let isLeft = FileManager.default.fileExists(atPath: sandbox.dataFolder)
    findings.append(
      Finding(
        "sandbox-removed", isLeft ? .failure : .passed, subject: "sandbox",
        evidence: isLeft ? "\(sandbox.dataFolder) is still there" : "the server was ended, and its folder is gone"))
    return findings
  }
}
