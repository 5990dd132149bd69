import DRCore
import DRVerify
import Logging

/// What a restore test is told, whichever system it restores.
struct RestoreTestOptions: Sendable {
  struct Canary: Sendable {
    var database: String
    var sql: String
    var answer: String
  }

  var target: RecoveryTarget
  var baseline: RecordedBaseline
  var rowTolerance: Double
  var slower: Double
  var limit: Duration
  var canary: Canary?
  var application: String?
  var logger: Logger
  /// From the beginning of a component's restore to its first right answer, once it was measured.
  var recovered = MutableBox<Duration?>(nil)

  /// What the clock of a restore says.
  func findings(of phases: RestorePhases) -> [Finding] {
    recovered.withLock { $0 = phases.recoveryTime }
    return phases.findings("restore")
  }
}
