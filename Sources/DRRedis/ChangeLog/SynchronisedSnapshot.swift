import DRCore
import Foundation
import Logging

/// The snapshot of a full synchronisation that has been answered already.
struct SynchronisedSnapshot: BackupSource {
  let snapshot: RedisSnapshot
  let session: ReplicaSession
  let server: RedisConnectionSettings
  let start: ReplicationPosition
  let moment: Date
  /// Where the log ended before, if it could not go on.
  let gapAfter: ReplicationPosition?

  var component: Component { snapshot.component }

  func capture(into writer: any BackupWriter, logger: Logger) async throws -> Capture {
    var capture = try await snapshot.capture(
      from: session, at: start, moment: moment, server, into: writer, logger: logger)
    capture.properties[BackupManifest.followedProperty] = true
    if let gapAfter { capture.properties[BackupManifest.gapProperty] = .string("\(gapAfter)") }
    return capture
  }
}
