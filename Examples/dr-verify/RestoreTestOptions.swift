import DRCore
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
}
