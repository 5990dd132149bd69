import ArgumentParser
import DRCore
import DRStorage
import ExampleSupport
import Foundation

/// Applies retention.
struct Prune: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows what retention would remove, and why; removes it with --execute.",
    discussion: """
      A backup is kept if any rule keeps it. One that no rule keeps is marked first, and removed by a later run once it was \
      marked for longer than the grace period. The last restorable backup of each system stays: by presence and size, with \
      --read-last by every byte. A policy can be a JSON file as well. On a disk that is full, what needs no space goes first: \
      segments that no backup needs.
      """)

  @OptionGroup var common: CommonArguments

  @Option(help: "The tier.")
  var tier: String

  @Option(parsing: .unconditional, help: "Keep backups younger than so many days.")
  var keepDays: Double?

  @Option(parsing: .unconditional, help: "Keep the newest so many.")
  var keepLast: Int?

  @Option(parsing: .unconditional, help: "Keep the newest of each of so many days.")
  var keepDaily: Int?

  @Option(parsing: .unconditional, help: "Keep the newest of each of so many weeks.")
  var keepWeekly: Int?

  @Option(parsing: .unconditional, help: "Keep the newest of each of so many months.")
  var keepMonthly: Int?

  @Option(parsing: .unconditional, help: "Keep the newest of each of so many years.")
  var keepYearly: Int?

  @Option(help: "The policy, in place of the options above.", completion: .file(extensions: ["json"]))
  var policy: String?

  @Option(parsing: .unconditional, help: "How long a backup stays after it was marked, in hours.")
  var graceHours = 24.0

  @Option(parsing: .unconditional, help: "How long the lease outlives its owner, in seconds.")
  var leaseSeconds = 60.0

  @Option(parsing: .unconditional, help: "How long to wait for another pruning, in seconds.")
  var patience = 300.0

  @Flag(help: "Read every byte of each system's last restorable backup: a damaged one stands for no other.")
  var readLast = false

  @Flag(inversion: .prefixedNo, help: "Show the plan and change nothing.")
  var dryRun = true

  @Flag(help: "Do it. The same as --no-dry-run.")
  var execute = false

  func validate() throws {
    try allow("--keep-days", keepDays, 0.01...36_500)
    try allow("--keep-last", keepLast, 1...100_000)
    try allow("--keep-daily", keepDaily, 1...100_000)
    try allow("--keep-weekly", keepWeekly, 1...100_000)
    try allow("--keep-monthly", keepMonthly, 1...100_000)
    try allow("--keep-yearly", keepYearly, 1...100_000)
    try allow("--grace-hours", graceHours, 0...87_600)
    try allow("--lease-seconds", leaseSeconds, 1...86_400)
    try allow("--patience", patience, 0...86_400)
    let isOption = keepDays != nil || [keepLast, keepDaily, keepWeekly, keepMonthly, keepYearly].contains { $0 != nil }
    guard policy == nil || !isOption else {
      throw ValidationError("--policy has all of the rules: give either that, or --keep-…")
    }
  }

  func run() async throws {
    try await reporting {
      let policy = try chosen()
      let isPlan = dryRun && !execute
      let repository = try await common.repository(tier, probing: isPlan ? .reading : .everything)
      let (grace, only) = (Duration.seconds(graceHours * 3600), try common.only())
      guard !isPlan else {
        let plan = try await repository.prunePlan(policy, of: only, grace: grace, readsLast: readLast)
        try await common.refuseEmpty(plan, on: repository)
        Prune.warn(of: policy, plan)
        print(plan.text)
        print("nothing was changed: this is the plan. --execute carries it out")
        return
      }
      let logger = common.logger
      let settings = Lease.Settings(life: .seconds(leaseSeconds), patience: .seconds(patience))
      let done = MutableBox<PruneOutcome?>(nil)
      let outcome: PruneOutcome
      do {
        let trail = AuditTrail(on: repository.tier, by: .current(program: "dr-repository"))
        outcome = try await trail.recording("prune", of: only, object: repository.tier.place, logger: logger) { line in
          defer { if let done = done.value { line.concerns("\(repository.tier.place): \(done.text)") } }
          return try await endingInGoodOrder(saying: Prune.soFar(done.value)) { [readLast] in
            try await Prune.makingRoom(on: repository, policy, only, grace, isBegun: { done.value != nil }) {
              try await Lease.with("prune", on: repository.tier, settings, logger: logger) { lease in
                try await repository.prune(
                  policy, of: only, grace: grace, lease: lease, readsLast: readLast, logger: logger
                ) { outcome in
                  done.withLock { $0 = outcome }
                }
              }
            }
          }
        }
      } catch let error as DRError {
        FileHandle.standardError.write(Data((Prune.soFar(done.value) + "\n").utf8))
        throw error
      }
      try await common.refuseEmpty(outcome.plan, on: repository)
      Prune.warn(of: policy, outcome.plan)
      print(outcome.plan.text)
      print(outcome.text)
      for key in outcome.locked { print("locked: \(key)") }
    }
  }

  /// Rules of a component that is mistyped are rules of none.
  private static func warn(of policy: RetentionPolicy, _ plan: PrunePlan) {
    let there = Set(plan.decisions.map { "\($0.component)" } + plan.logs.map { "\($0.component)" })
    for name in policy.components.keys.sorted() where !there.contains(name) {
      FileHandle.standardError.write(
        Data("warning: the policy has rules for \(name), of which there is nothing on \(plan.tier)\n".utf8))
    }
    if policy.lock != nil, plan.lock == nil {
      FileHandle.standardError.write(Data("warning: \(plan.tier) has no locks: nothing is locked\n".utf8))
    }
  }

  /// What was done of a pruning that did not come to its end: it stays done, and another run goes on with the rest.
  private static func soFar(_ outcome: PruneOutcome?) -> String {
    outcome.map { "by then: \($0.text)" } ?? "by then nothing was changed"
  }

  /// On a full disk no lease can be taken: then what needs no space goes first.
  private static func makingRoom(
    on repository: Repository, _ policy: RetentionPolicy, _ only: Component?, _ grace: Duration,
    isBegun: () -> Bool, _ prune: () async throws -> PruneOutcome
  ) async throws -> PruneOutcome {
    do {
      return try await prune()
    } catch var error as DRError where error.code == .noSpace && !isBegun() {
      let first = try await repository.pruneWithoutWriting(policy, of: only, grace: grace)
      guard !first.removed.isEmpty || first.segments > 0 else {
        error.advice =
          "nothing can be removed without writing a few KiB, and there is no room for them: run dr-repository clean --tier "
          + "\(repository.tier.place), which writes nothing, or free some space by hand"
        throw error
      }
      print("there was no space left, and so what needs none went first: \(first.text)")
      return try await prune()
    }
  }

  private func chosen() throws -> RetentionPolicy {
    if let policy { return try RetentionPolicy(file: policy) }
    var rules: [RetentionPolicy.Rule] = []
    if let keepDays { rules.append(.within(days: keepDays)) }
    if let keepLast { rules.append(.newest(keepLast)) }
    if let keepDaily { rules.append(.newest(keepDaily, each: .day)) }
    if let keepWeekly { rules.append(.newest(keepWeekly, each: .week)) }
    if let keepMonthly { rules.append(.newest(keepMonthly, each: .month)) }
    if let keepYearly { rules.append(.newest(keepYearly, each: .year)) }
    guard !rules.isEmpty else {
      throw ValidationError("no rule says what to keep: give --keep-days, --keep-last, … or --policy")
    }
    return RetentionPolicy(rules)
  }
}
