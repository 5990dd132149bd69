public import Logging

/// The continuous sibling of ``BackupSource``: follows what changes after a snapshot.
public protocol ChangeSource: Sendable {
  var component: Component { get }

  /// Follows the changes until the task is cancelled.
  ///
  /// `onDurable` is called with a recovery point only after everything up to it is durable in the tier; only then is
  /// it acknowledged to the source. Calls are in order.
  ///
  /// - Throws: ``DRError`` when it cannot go on without a gap (`changeLogGap`), or when going on needs a person. A lost
  ///   connection is no reason to throw: it reconnects with back-off.
  func follow(logger: Logger, onDurable: @escaping @Sendable (RecoveryPoint) async -> Void) async throws
}
