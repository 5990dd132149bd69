import DRCore
import Logging

public struct WALArchive: Sendable {
  func waitUntilHolds(
    from: LSN, through: LSN, timeline: UInt32, systemIdentifier: String, within: Duration, logger: Logger
  ) async throws {}
}
