import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport

/// Copies backups and change logs to another tier.
struct Replicate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Copies what is missing to another tier, unchanged, and verifies it there.",
    discussion: """
      Run it again after an interruption: what it had sent is read back, the rest is sent. Of copies that were verified before, what is \
      missing or has another size is sent again; --read-back-all looks at every byte of them, but of none that is archived. The audit trail and \
      the reports of runs go along, and what is there of them is never removed or written over: what differs is said (exit code 1).
      """)

  @OptionGroup var common: CommonArguments

  @Option(help: "The tier to copy from.")
  var from: String

  @Option(help: "The tier to copy to.")
  var to: String

  @Option(parsing: .unconditional, help: "Objects copied at the same time.")
  var concurrency = 4

  @Option(parsing: .unconditional, help: "At most so many bytes a second.")
  var bandwidth: Int64?

  @Option(help: "The storage class of copied artifacts and segments: STANDARD_IA, DEEP_ARCHIVE.")
  var storageClass: String?

  @Option(parsing: .unconditional, help: "Lock every copy in compliance mode for so many days: nobody can lift that.")
  var lockDays: Double?

  @Flag(help: "Also read back what was copied before, and send again what is damaged there.")
  var readBackAll = false

  func validate() throws {
    try allow("--concurrency", concurrency, 1...256)
    try allow("--bandwidth", bandwidth, 1...1_000_000_000_000)
    try allow("--lock-days", lockDays, 0.01...36_500)
  }

  func run() async throws {
    try await reporting {
      try TierPlace.refuseSame([from, to])
      var settings = Replicator.Settings()
      settings.concurrency = concurrency
      settings.storageClass = storageClass.map { StorageClass(rawValue: $0) }
      settings.readsBackAll = readBackAll
      settings.lock = lockDays.map { RetentionPolicy.Lock(.compliance, days: $0) }
      let source = try await common.repository(from, probing: .reading)
      let copy = try await common.repository(to, limit: bandwidth)
      let replicator = try Replicator(from: source, to: copy, settings: settings)
      let only = try common.only()
      // Where something is written.
      let trail = AuditTrail(on: copy.tier, by: .current(program: "dr-repository"))
      let outcome = try await trail.recording("replicate", of: only, object: "from \(from)", logger: common.logger) {
        _ in
        try await replicator.run(of: only, logger: common.logger)
      }
      if outcome.backups.isEmpty, outcome.segments == 0, outcome.failures.isEmpty, outcome.leftOut.isEmpty,
        outcome.records == 0 || only != nil
      {
        let catalog = try await source.catalog(of: try common.only())
        try await common.refuseEmpty(source, isEmpty: catalog.backups.isEmpty && catalog.unreadable.isEmpty)
      }
      print(
        "copied \(outcome.backups.count) backups and \(outcome.segments) segments, \(Format.bytes(outcome.bytes)) sent")
      if outcome.records > 0 { print("copied \(outcome.records) lines of the audit trail and files of reports") }
      for finding in outcome.recordFindings { print(finding) }
      if readBackAll {
        print("read back \(outcome.readBack) objects that were there: \(outcome.damaged.count) were damaged")
        for key in outcome.damaged { print("damaged: \(key)\(outcome.mended.contains(key) ? ", sent again" : "")") }
      }
      if outcome.archived > 0 {
        print("not read back: \(outcome.archived) objects that are archived; thaw them first (dr-tier thaw)")
      }
      if !outcome.leftOut.isEmpty { print("not brought back after its pruning: \(outcome.leftOut.count) backups") }
      for (key, error) in outcome.failures.sorted(by: { $0.key < $1.key }) { print("failed: \(key): \(error)") }
      let isOther = outcome.recordFindings.contains { $0.severity == .failure }
      if !outcome.failures.isEmpty || isOther { throw ExitCode(1) }
    }
  }
}
