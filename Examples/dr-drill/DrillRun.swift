import DRCore
import DRStorage
import DRVerify
import ExampleSupport
import Foundation
import Logging

/// What the systems of one drill share (its options, its folder, its repository) and the record into which one step of it writes.
struct DrillRun: Sendable {
  let options: DrillOptions
  let folder: DrillFolder
  let store: DrillStore
  let logger: Logger
  /// When the servers were destroyed.
  let disaster = MutableBox<Date?>(nil)
  private var written = MutableBox(DrillRecord())

  init(_ options: DrillOptions, in folder: DrillFolder, _ store: DrillStore, logger: Logger) {
    self.options = options
    self.folder = folder
    self.store = store
    self.logger = logger
  }

  /// The same with an empty record: for another step.
  var anew: DrillRun {
    var run = self
    run.written = MutableBox(DrillRecord())
    return run
  }

  var record: DrillRecord { written.value }

  func note(_ change: (inout DrillRecord) -> Void) { written.withLock { change(&$0) } }

  // MARK: What is shared

  var repository: Repository { store.repository }
  var encoding: Encoding { store.encoding }
  var decoding: Decoding { store.decoding }
  var isEncrypted: Bool { store.recipients != nil }

  /// How another program reaches the repository.
  func settings(for component: Component) -> RepositoryConfiguration { store.settings(for: component) }

  func say(_ text: String) { print("dr-drill: \(text)") }

  /// A repository that reads one bit of an artifact wrong; which one, the seed says. It is of the second half: in its head, it might be taken
  /// for another format.
  func damaged(_ artifact: BackupManifest.Artifact) -> Repository {
    let half = max(1, artifact.storedSize / 2)
    let offset = artifact.storedSize - half + Int64(options.seed &* 0x9E37_79B9_7F4A_7C15 % UInt64(half))
    return Repository(tier: DamagedTier(repository.tier, damaging: artifact.key, at: offset))
  }

  // MARK: What is recorded

  /// - Parameter counts: Whether the phase is a part of the recovery time.
  func measure<Result>(
    _ system: (any DrillSystem)? = nil, _ name: String, counts: Bool = false,
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Result
  ) async throws -> Result {
    let (start, started) = (ContinuousClock.now, Date())
    let result = try await body()
    let phase = DrillRecord.Phase(
      started: started, system: system?.component.kind.rawValue, name: name, duration: start.duration(to: .now),
      counts: counts)
    note { $0.phases.append(phase) }
    return result
  }

  /// - Parameter system: Nil: the platform.
  func check(_ system: (any DrillSystem)?, _ name: String, _ passed: Bool, _ detail: String) {
    let kind = system?.component.kind.rawValue ?? "platform"
    note { $0.checks.append(DrillRecord.Check(system: kind, name: name, passed: passed, detail: detail)) }
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

  func version(of system: any DrillSystem, _ version: String) {
    note { $0.versions[system.component.kind.rawValue] = version }
  }

  /// The first right answer of a restored system: checks the time that it took from the disaster, by the clock on the wall, which went on
  /// while a drill that was resumed was dead.
  func answered(_ system: any DrillSystem) {
    guard let disaster = disaster.value else { return }
    let (now, kind) = (Date(), system.component.kind)
    let taken = Duration.seconds(now.timeIntervalSince(disaster))
    note { $0.answered[kind.rawValue] = now }
    let allowed = options.objective(of: kind).rto
    check(
      system, "recovery time", taken <= allowed,
      "\(Format.duration(taken)) from the kill to the first right answer, \(Format.duration(allowed)) allowed")
  }

  /// Checks what was lost of a system that was restored to the latest.
  ///
  /// - Parameter what: For people, for example `3 of 5000 commits`.
  func lost(_ time: Duration, _ what: String, _ system: any DrillSystem) {
    let kind = system.component.kind
    note { $0.losses[kind.rawValue] = time }
    let allowed = options.objective(of: kind).rpo
    let shown = time < .seconds(1) ? "\(Int((time / .milliseconds(1)).rounded(.up))) ms" : Format.duration(time)
    check(
      system, "data loss", time <= allowed, "\(shown) and \(what) lost, \(Format.duration(allowed)) allowed")
  }
}
