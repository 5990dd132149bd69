import DRCore
import DRPostgres
import DRRabbitMQ
import DRStorage
import DRVerify
import ExampleSupport
import Logging

/// One component, and what can be done to a copy of it.
struct DamagedComponent {
  private let settings: RepositoryConfiguration
  private let seed: UInt64
  private let options: RestoreTestOptions
  private var logger: Logger { options.logger }

  init(_ settings: RepositoryConfiguration, _ seed: UInt64, _ logger: Logger) {
    self.settings = settings
    self.seed = seed
    options = RestoreTestOptions(
      target: .latest, baseline: RecordedBaseline(), rowTolerance: 0, slower: 0, limit: .seconds(3600), logger: logger)
  }

  func findings() async throws -> [Finding] {
    let repository = Repository(tier: try await settings.tier(creating: false, probing: .reading))
    let verification = DailyVerification(
      repository, component: settings.component, decoding: try settings.decoding())
    let sound = await verification.report(logger: logger)
    let manifest = try await repository.catalog(of: settings.component).backup(of: settings.component, for: .latest)
    func damage(_ kind: NegativeControl.Damage, _ key: ObjectKey, _ change: DamagedTier.Damage) async -> Finding {
      await NegativeControl.finding(kind, to: key, as: change, of: verification, sound: sound, logger: logger)
    }
    var findings: [Finding] = []
    if let largest = manifest.artifacts.max(by: { $0.storedSize < $1.storedSize }), largest.storedSize > 0 {
      let offset = Int64(seed &* 0x9E37_79B9_7F4A_7C15 % UInt64(largest.storedSize))
      findings.append(await damage(.flippedByte, largest.key, .flippedBit(at: offset)))
      if settings.component.kind == .redis {
        findings.append(await damage(.truncatedDump, largest.key, .truncated(to: largest.storedSize / 2)))
      }
    }
    switch settings.component.kind {
    case .postgres:
      if let segment = try await neededSegment(of: manifest, in: repository) {
        findings.append(await damage(.missingSegment, segment, .missing))
      } else {
        findings.append(
          Finding(
            "negative-control", .notChecked, subject: NegativeControl.Damage.missingSegment.rawValue,
            evidence: "the newest backup holds the WAL that it needs itself"))
      }
      findings.append(try await removedRow())
    case .rabbitmq: findings.append(try await lostMessage())
    default: break
    }
    return findings
  }

  /// The one in which the backup begins.
  private func neededSegment(of manifest: BackupManifest, in repository: Repository) async throws -> ObjectKey? {
    guard let start = LSN((manifest.changesFrom ?? manifest.recoveryPoint).position) else { return nil }
    let size = try manifest.properties["walSegmentSize"]?.integer.map { try WALSegmentSize(Int($0)) } ?? .standard
    let name = "\(WALSegmentName(timeline: 1, holding: start, segmentSize: size))".suffix(16)
    return try await repository.logObjects(of: settings.component, changeLogs: [.wal]).first {
      !$0.isPartial && $0.key.lastComponent.dropFirst(8).hasPrefix(name)
    }?.key
  }

  private func removedRow() async throws -> Finding {
    let findings = try await PostgresRestoreTest(settings, options).restored { sandbox, _, _ in
      let counts = try await PostgresRowCounts.count(sandbox.settings, logger: logger)
      let tables = counts.databases.flatMap { database, tables in tables.map { (database, $0.key, $0.value) } }
      guard let (database, table, rows) = tables.filter({ $0.2 > 0 }).max(by: { $0.2 < $1.2 }) else {
        return [
          Finding(
            "negative-control", .notChecked, subject: NegativeControl.Damage.removedRow.rawValue,
            evidence: "no table holds a row")
        ]
      }
      let probes = PostgresProbes(sandbox.settings, probes: [.rowCounts(counts), .foreignKeys])
      let sound = await VerificationReport.run("restored", probes, logger: logger)
      try await sandbox.removeRow(of: table, in: database)
      let damaged = await VerificationReport.run("restored", probes, logger: logger)
      return [
        NegativeControl.finding(
          .removedRow, "\(database): \(table), one of \(rows)", sound: sound, damaged: damaged)
      ]
    }
    return outcome(findings, .removedRow)
  }

  private func lostMessage() async throws -> Finding {
    let findings = try await RabbitMQRestoreTest(settings, options).restored { broker, probes, _ in
      let sound = await VerificationReport.run("restored", probes, logger: logger)
      guard let queue = try await broker.loseMessage() else {
        return [
          Finding(
            "negative-control", .notChecked, subject: NegativeControl.Damage.lostMessage.rawValue,
            evidence: "no queue holds a message")
        ]
      }
      let damaged = await VerificationReport.run("restored", probes, logger: logger)
      return [NegativeControl.finding(.lostMessage, queue, sound: sound, damaged: damaged)]
    }
    return outcome(findings, .lostMessage)
  }

  private func outcome(_ findings: [Finding], _ damage: NegativeControl.Damage) -> Finding {
    findings.first { $0.check == "negative-control" }
      ?? Finding("negative-control", .couldNotVerify, subject: damage.rawValue, evidence: "it was not tried")
  }
}
