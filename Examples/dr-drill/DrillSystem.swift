import DRCore

import struct Foundation.Date

/// One system of the drill's platform. All of them are started, protected, destroyed at the same moment, and brought back
/// one after the other, in the order of their priority.
///
/// Each keeps its own ledger of what its server confirmed, outside that server.
protocol DrillSystem: Sendable {
  var component: Component { get }

  /// Starts and fills a server, follows its changes, and lets ledger writers loose on it.
  func start(_ run: DrillRun) async throws
  /// Takes a backup while the writers write.
  func backUp(_ run: DrillRun) async throws
  /// Runs the body while no writer is in the middle of a change: what was confirmed before it and after it is told apart by
  /// time.
  func betweenChanges(_ body: @escaping @Sendable () async throws -> Void) async throws
  /// `kill -9`, and every file of the server is removed.
  func destroy(_ run: DrillRun) async throws
  /// Restores to the moment, in a new place, and checks that the ledger is there up to it and no further. Calls
  /// ``DrillRun/answered(_:)`` at the first right answer.
  func recover(to moment: Date, _ run: DrillRun) async throws
  /// Restores to the latest, and checks what was lost.
  func recoverLatest(_ run: DrillRun) async throws
  /// Damages a copy of the backup and checks that the verifier and the restore notice.
  func refuseDamage(_ run: DrillRun) async throws
  /// Stock commands that open what is in the repository.
  func openingCommands(_ run: DrillRun) async throws -> [String]
  /// Ends and removes every server that is still there, whatever happened. May be called again.
  func close() async
}
