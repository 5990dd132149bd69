import DRCore
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging
import Synchronization

/// What the systems of one drill share: its options, its folder, its repository, and the report that they write.
final class DrillRun: Sendable {
  let command: DrillCommand
  let folder: DrillFolder
  /// Where the backups are made.
  private let first: Repository
  private let replica: DrillReplica?
  let encoding: Encoding
  let decoding: Decoding
  let logger: Logger
  private let recipients: [String]?

  private struct State {
    var report = DrillReport()
    var disaster: ContinuousClock.Instant?
    /// The first tier is gone.
    var isReplicaAllThereIs = false
    var stage = DrillReport.Stage.before
  }

  private let state = Mutex(State())

  init(_ command: DrillCommand, logger: Logger) async throws {
    self.command = command
    self.logger = logger
    folder = try DrillFolder()
    if command.encrypt {
      let identity = AgeIdentity.generate()
      try folder.write((identity.secretText() ?? "") + "\n", to: folder.identity)
      recipients = identity.recipient.map { ["\($0)"] }
    } else {
      recipients = nil
    }
    let settings = RepositoryConfiguration(
      repository: folder.repository, component: try Component(.postgres, "drill"), recipients: recipients,
      identityFile: recipients == nil ? nil : folder.identity)
    let first = Repository(tier: try await settings.tier(creating: true))
    self.first = first
    if let place = command.tier {
      replica = try await DrillReplica(place, of: first, folder)
    } else {
      replica = nil
    }
    encoding = try settings.encoding()
    decoding = try settings.decoding()
  }

  var isEncrypted: Bool { recipients != nil }

  /// Where the backups are: on the first tier, and after the disaster on the second, if there is one.
  var repository: Repository { lost?.repository ?? first }

  /// The second tier, once it is all that there is.
  private var lost: DrillReplica? { state.withLock { $0.isReplicaAllThereIs } ? replica : nil }

  /// How another program reaches the repository.
  func settings(for component: Component) -> RepositoryConfiguration {
    RepositoryConfiguration(
      repository: lost?.place ?? folder.repository, component: component, recipients: recipients,
      identityFile: isEncrypted ? folder.identity : nil, s3: lost?.s3)
  }

  // MARK: The second tier

  func startReplication() {
    guard let replica else { return }
    say("copying the repository to \(replica.repository.tier.name) as it grows")
    replica.start(logger)
  }

  var hasSecondTier: Bool { replica != nil }

  /// Returns once what was stored when it was called is on the second tier too.
  func catchUp() async throws { try await replica?.catchUp() }

  /// Nothing is copied any more.
  func endReplication() async { await replica?.stop() }

  /// The first tier goes with the servers.
  func loseFirstTier() throws {
    guard let replica else { return }
    try FileManager.default.removeItem(atPath: folder.repository)
    state.withLock { $0.isReplicaAllThereIs = true }
    say("the repository's folder is gone too: restoring from \(replica.repository.tier.name)")
  }

  func removeCopy() async {
    guard let replica else { return }
    await replica.stop()
    do {
      try await replica.remove()
    } catch {
      say("\(replica.place) could not be removed: \(error)")
    }
  }

  func say(_ text: String) { print("dr-drill: \(text)") }

  /// - Parameter counts: Whether the phase is a part of the recovery time.
  func measure<Result>(
    _ system: (any DrillSystem)? = nil, _ name: String, counts: Bool = false,
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Result
  ) async throws -> Result {
    let (start, started) = (ContinuousClock.now, Date())
    let result = try await body()
    let phase = DrillReport.Phase(
      stage: state.withLock { $0.stage }, started: started,
      system: system?.component.kind.rawValue, name: name, duration: start.duration(to: .now), counts: counts)
    state.withLock { $0.report.phases.append(phase) }
    return result
  }

  func check(_ system: any DrillSystem, _ name: String, _ passed: Bool, _ detail: String) {
    let kind = system.component.kind.rawValue
    state.withLock {
      $0.report.checks.append(DrillReport.Check(system: kind, name: name, passed: passed, detail: detail))
    }
  }

  /// One check of several findings: passed if none is a failure and at least one passed.
  func check(_ system: any DrillSystem, _ name: String, _ findings: [Finding]) {
    let failures = findings.filter { $0.severity >= .couldNotVerify }
    let passed = findings.filter { $0.severity == .passed }.count
    check(
      system, name, failures.isEmpty && passed > 0,
      failures.first.map { "\($0)" }
        ?? (findings.count == 1 ? findings[0].evidence : "\(passed) passed, \(findings.count - passed) notices"))
  }

  // MARK: The clock of the disaster

  func disasterStrikes() {
    state.withLock {
      $0.disaster = .now
      $0.report.disaster = Date()
    }
  }

  func begin(_ stage: DrillReport.Stage) { state.withLock { $0.stage = stage } }

  func aim(at moment: Date) { state.withLock { $0.report.target = moment } }

  func end(_ systems: [any DrillSystem]) {
    state.withLock {
      $0.report.systems = systems.map(\.component.kind.rawValue)
      $0.report.ended = Date()
    }
  }

  /// The first right answer of a restored system: checks the time that it took from the disaster.
  func answered(_ system: any DrillSystem) {
    guard let disaster = state.withLock({ $0.disaster }) else { return }
    let taken = disaster.duration(to: .now)
    state.withLock { $0.report.recoveryTimes[system.component.kind.rawValue] = taken }
    let allowed = command.rtoTarget.map { Duration.seconds($0) } ?? DrillTargets.of(system.component.kind).rto
    check(
      system, "recovery time", taken <= allowed,
      "\(Format.duration(taken)) from the kill to the first right answer, \(Format.duration(allowed)) allowed")
  }

  /// Checks what was lost of a system that was restored to the latest.
  ///
  /// - Parameter what: For people, for example `3 of 5000 commits`.
  func lost(_ time: Duration, _ what: String, _ system: any DrillSystem) {
    state.withLock { $0.report.losses[system.component.kind.rawValue] = time }
    let allowed = command.rpoTarget.map { Duration.seconds($0) } ?? DrillTargets.of(system.component.kind).rpo
    let shown = time < .seconds(1) ? "\(Int((time / .milliseconds(1)).rounded(.up))) ms" : Format.duration(time)
    check(
      system, "data loss", time <= allowed, "\(shown) and \(what) lost, \(Format.duration(allowed)) allowed")
  }

  /// A repository that reads one bit of an artifact wrong; which one, the seed says.
  func damaged(_ artifact: BackupManifest.Artifact) -> Repository {
    let offset = Int64(command.seed &* 0x9E37_79B9_7F4A_7C15 % UInt64(max(1, artifact.storedSize)))
    return Repository(tier: DamagedTier(repository.tier, damaging: artifact.key, at: offset))
  }

  var report: DrillReport { state.withLock { $0.report } }

  func note(_ lines: [String]) { state.withLock { $0.report.notes += lines } }
}

/// The plan's objectives for the systems that a drill destroys.
enum DrillTargets {
  static func of(_ kind: Component.Kind) -> Objective {
    switch kind {
    case .redis: Objective(rto: .seconds(30 * 60), rpo: .seconds(15 * 60), priority: .high)
    case .rabbitmq: Objective(rto: .seconds(45 * 60), rpo: .seconds(3600), priority: .high)
    case .config: Objective(rto: .seconds(15 * 60), rpo: .seconds(60), priority: .critical)
    default: Objective(rto: .seconds(3600), rpo: .seconds(3600), priority: .critical)
    }
  }
}
