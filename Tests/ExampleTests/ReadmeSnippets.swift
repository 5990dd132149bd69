import DRCore
import DRFiles
import DRPlan
import DRPostgres
import DRStorage
import Foundation
import Logging
import NIOCore

// The README's Swift blocks, compiled. Each stands between its marks as it stands there, indented.

func backUp(publicKey: String, logger: Logger) async throws {
  // README
  let repository = Repository(tier: try await LocalTier(root: "/backups", creating: true))
  let source = PostgresBaseBackup(
    component: try Component(.postgres, "app"), server: PostgresConnectionSettings(host: "db.internal", user: "backup"),
    requiredWAL: .included)
  let encoding = Encoding(compression: .zstd(level: 1), recipients: [try AgeRecipient(parsing: publicKey)])
  let manifest = try await repository.backUp(source, cadence: .daily, encoding: encoding, logger: logger)
  print(manifest.id, manifest.recoveryPoint.position)
  // README end
}

func restore(
  _ repository: Repository, _ manifest: BackupManifest, identity: AgeIdentity, moment: Date, logger: Logger
) async throws -> RestoreOutcome {
  // README
  let reader = repository.reader(for: manifest, decoding: Decoding(identities: [identity]))
  let restorer = PostgresRestorer(
    dataFolder: "/var/lib/postgresql/15/restored",
    recovery: RecoverySettings(restoreCommand: "dr-wal fetch --config /etc/dr.json %f %p"))
  let outcome = try await restorer.restore(from: reader, to: .time(moment), logger: logger)
  // README end
  return outcome
}

func keepFiles(
  _ repository: Repository, _ encoding: Encoding, identity: AgeIdentity, logger: Logger
) async throws -> FileTreeRestorer.Report {
  // README
  let tree = FileTreeSource(
    component: try Component(.config, "app"), root: "/srv/app", included: [".env", "*.conf", "certs"])
  let files = try await repository.backUp(tree, cadence: .daily, encoding: encoding, logger: logger)
  let restorer = FileTreeRestorer(destination: "/srv/app", placement: .inPlace, paths: ["certs"])
  let reader = repository.reader(for: files, decoding: Decoding(identities: [identity]))
  for change in try await restorer.diff(from: reader, logger: logger).entries { print(change) }
  let report = try await restorer.run(from: reader, logger: logger)
  // README end
  return report
}

func planAsATest(_ plan: ProtectionPlan, database: Component, start: Date, outage: Range<Date>) throws {
  // README
  let year = start..<start.addingTimeInterval(365 * 86_400)
  let exposure = try plan.exposure(of: database, in: year) { capture, moment in
    capture.name == "WAL" && outage.contains(moment)
  }
  assert(exposure.times(above: .hours(1)).isEmpty, "no hour of the year has an RPO above one hour")
  // README end
}

func keepInBucket(sealed: ByteBuffer) async throws {
  // README
  var configuration = S3Configuration(bucket: "company-backups", prefix: "app", region: "eu-central-1")
  configuration.encryption = .kms(key: "alias/backup", bucketKey: true)
  let tier = try await S3Tier(configuration)
  let lock = RetentionLock(.compliance, until: .now + 90 * 86_400)
  _ = try await tier.put(ObjectKey("keys/identity.age"), ByteStream(sealed), PutOptions(onlyIfAbsent: true, lock: lock))
  // README end
}

func copyAndPrune(
  _ repository: Repository, _ offsite: Repository, _ manifest: BackupManifest, identity: AgeIdentity, logger: Logger
) async throws -> any BackupReader {
  // README
  let copied = try await Replicator(from: repository, to: offsite).run(logger: logger)
  let policy = RetentionPolicy([.within(days: 7), .newest(12, each: .month)])
  let plan = try await repository.prunePlan(policy)
  print(copied.backups.count, plan.text)
  try await Lease.with("prune", on: repository.tier, logger: logger) { lease in
    _ = try await repository.prune(policy, approved: plan, lease: lease, logger: logger)
  }
  let anywhere = repository.reader(
    for: manifest, further: [offsite.tier], decoding: Decoding(identities: [identity]), logger: logger)
  // README end
  return anywhere
}
