import DRCore
import DRPlan
import Foundation
import Logging

/// One system of the drill's platform. All of them are started, protected, and destroyed at the same moment; then the configuration is brought
/// back first, and the others side by side.
///
/// Each keeps its own ledger of what its server confirmed, outside that server. What follows on the disaster may be done by another process
/// than what came before it, and any of it may be begun again after it was killed anywhere: each first ends and removes what it may have left.
protocol DrillSystem: Sendable {
  var component: Component { get }

  // MARK: Before the disaster

  /// Starts and fills a server, follows its changes, and lets ledger writers loose on it.
  func start(_ run: DrillRun) async throws
  /// Takes a backup while the writers write.
  func backUp(_ run: DrillRun) async throws
  /// Runs the body while no writer is in the middle of a change: what was confirmed before it and after it is told apart by
  /// time.
  func betweenChanges(_ body: @escaping @Sendable () async throws -> Void) async throws
  /// `kill -9`, and every file of the server is removed.
  func destroy(_ run: DrillRun) async throws
  /// What a resumed drill must know: what was confirmed, how much there was, where the server was.
  func memory() async throws -> Data

  // MARK: After it

  /// Takes what another process knew.
  func remember(_ memory: Data) async throws
  /// One look at the server that was destroyed, as a client's: it throws if there is no right answer.
  func look(_ logger: Logger) async throws -> String
  /// Restores to the moment, in a new place, up to the first right answer; then it calls ``DrillRun/answered(_:)``.
  func recover(to moment: Date, _ run: DrillRun) async throws
  /// Checks that the ledger is there up to the moment and no further, and looks at the server that came back. One that went with a drill that
  /// was killed is brought back once more.
  func verify(_ moment: Date, _ run: DrillRun) async throws
  /// Restores to the latest, and checks what was lost.
  func recoverLatest(_ run: DrillRun) async throws
  /// Damages a copy of the backup and checks that the verifier and the restore notice.
  func refuseDamage(_ run: DrillRun) async throws

  /// Stock commands that open what is in the repository.
  func openingCommands(_ run: DrillRun) async throws -> [String]
  /// Ends the servers of drills that were killed, and removes their folders.
  func endAbandoned(_ logger: Logger) async throws
  /// Ends and removes every server that is still there, whatever happened. May be called again.
  func close() async throws
}

extension DrillSystem {
  /// Of its restored files in the drill's folder, if it has any.
  func place(_ name: String, _ run: DrillRun) -> String { "\(run.folder.path)/\(component.kind.rawValue)-\(name)" }

  /// Removes what a step that was killed may have left.
  func clear(_ place: String) throws {
    guard FileManager.default.fileExists(atPath: place) else { return }
    try FileManager.default.removeItem(atPath: place)
  }
}
