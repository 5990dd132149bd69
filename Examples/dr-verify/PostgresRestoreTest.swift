import DRCore
import DRPostgres
import DRSandbox
import DRStorage
import DRVerify
import ExampleSupport
import Foundation

/// Restores PostgreSQL into a sandbox, and looks at it.
struct PostgresRestoreTest {
  private let settings: RepositoryConfiguration
  private let options: RestoreTestOptions

  init(_ settings: RepositoryConfiguration, _ options: RestoreTestOptions) {
    self.settings = settings
    self.options = options
  }

  func run() async throws -> [Finding] {
    try await restored { sandbox, manifest, findings in
      findings + (try await probes(sandbox, manifest).verify(logger: options.logger))
        + (try await application(sandbox.settings))
    }
  }

  /// Gives the body the restored server with what was found so far, and removes it whatever happens.
  func restored(
    _ body: @Sendable (PostgresSandbox, BackupManifest, [Finding]) async throws -> [Finding]
  ) async throws -> [Finding] {
    let (logger, target) = (options.logger, options.target)
    var phases = RestorePhases(limit: options.limit)
    let source = try await settings.restoreSource()
    let settings = settings
    let manifest = try await phases.measure("find the backup") {
      try await source.backup { try await settings.backup(in: $0, for: target) }
    }
    guard let archive = try settings.archive(of: manifest, in: source.repository.tier) else {
      throw DRError(
        .malformedData, "the backup \(manifest.id) does not name its cluster", component: settings.component)
    }
    let major = manifest.serverVersion.flatMap { Int($0.prefix { $0.isNumber }) }
    var made = PostgresSandbox.Options()
    made.majorVersion = major
    let sandbox = try await PostgresSandbox.prepare(made, logger: logger)
    var findings: [Finding] = []
    findings += try await PostgresSandbox.with(sandbox) { sandbox in
      let reader = try await source.reader(for: manifest, logger: logger)
      let restorer = PostgresRestorer(
        dataFolder: sandbox.dataFolder, recovery: RecoverySettings(restoreCommand: "cp dr_wal/%f %p"), archive: archive,
        tablespaces: Self.tablespaces(of: manifest, beside: sandbox.dataFolder),
        owner: try ServerUser.needed("postgres")?.name)
      let outcome = try await phases.measure("read, decrypt, check, write") {
        try await restorer.restore(from: reader, to: target, logger: logger)
      }
      let folder = sandbox.dataFolder + "/dr_wal"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
      let segments = try await phases.measure("fetch the WAL") { try await archive.write(for: manifest, into: folder) }
      try await phases.measure("start, replay, promote") {
        try await sandbox.start(until: .promoted, limit: max(options.limit, .seconds(600)))
      }
      let answer = try await phases.measure("first right answer") {
        try await PostgresProbes(sandbox.settings, databases: ["postgres"], probes: [.connectivity]).verify(
          logger: logger)
      }
      var seen = [
        Finding(
          "restore", .passed, subject: manifest.id,
          evidence:
            "\(outcome.items) files, \(outcome.bytes) bytes, and \(segments) files of WAL, into a server of its own")
      ]
      seen += answer + options.findings(of: phases) + (try await sandbox.harmlessness(logger: logger))
      return try await body(sandbox, manifest, seen)
    }
    let isLeft = FileManager.default.fileExists(atPath: sandbox.dataFolder)
    findings.append(
      Finding(
        "sandbox-removed", isLeft ? .failure : .passed, subject: "sandbox",
        evidence: isLeft ? "\(sandbox.dataFolder) is still there" : "the server was ended, and its folder is gone",
        advice: isLeft ? "remove it" : nil))
    return findings
  }

  func probes(_ sandbox: PostgresSandbox, _ manifest: BackupManifest) -> PostgresProbes {
    let baseline = options.baseline.postgres
    var probes = PostgresProbes.all(
      sandbox.settings, rowCounts: baseline?.rowCounts, tolerance: options.rowTolerance)
    if let baseline {
      probes.probes += [
        .tables(baseline), .columnTypes(baseline), .timestamps(baseline, restored: manifest.recoveryPoint.time),
        .queries(baseline, slower: options.slower),
      ]
    }
    if let canary = options.canary {
      probes.probes.append(.answer("canary", in: canary.database, to: canary.sql, is: canary.answer))
    }
    return probes
  }

  private func application(_ server: PostgresConnectionSettings) async throws -> [Finding] {
    guard let command = options.application else { return [] }
    let result = try await runProgram(
      "/bin/sh", ["-c", command],
      environment: [
        "PGHOST": server.host ?? "", "PGPORT": server.port.map { "\($0)" } ?? "", "PGUSER": server.user ?? "",
        "PGDATABASE": server.database ?? "postgres",
      ], limit: .seconds(600))
    let good = result.status == 0
    return [
      Finding(
        "application", good ? .passed : .failure, subject: "application",
        evidence: good
          ? "its command ended with 0" : "its command ended with \(result.status): \(result.error.suffix(400))",
        advice: good ? nil : "see what the application misses in what was restored")
    ]
  }

  /// None goes to where it was: a tablespace's own place belongs to production.
  private static func tablespaces(of manifest: BackupManifest, beside folder: String) -> [String: String] {
    let places = (manifest.properties["tablespaces"]?.object ?? [:]).compactMap { id, place in
      place.string.map { ($0, "\(folder)_tablespace_\(id)") }
    }
    return Dictionary(places, uniquingKeysWith: { first, _ in first })
  }
}
