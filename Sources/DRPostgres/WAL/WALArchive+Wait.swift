import DRCore
package import Logging

extension WALArchive {
  /// Waits until everything from one position up to another is durable in the archive.
  ///
  /// - Parameters:
  ///   - timeline: Which timeline the end lies on.
  ///   - systemIdentifier: Of the server that the positions are from.
  ///   - onWait: Told again and again what is missing, for as long as it is.
  /// - Throws: ``DRError``: `invalidConfiguration` if the archive is another cluster's; `timedOut` naming the first
  ///   position that is missing; as the tier's `list`.
  package func waitUntilHolds(
    from start: LSN, through end: LSN, timeline: UInt32, systemIdentifier: String, within limit: Duration,
    logger: Logger, onWait: @Sendable (String) -> Void = { _ in }
  ) async throws {
    guard systemIdentifier == self.systemIdentifier else { throw otherSystem(systemIdentifier) }
    let deadline = ContinuousClock.now + limit
    var hasSaid = false
    while true {
      let inventory = try await inventory()
      let history = try await knownHistory(of: timeline, inventory)
      guard let missing = inventory.firstMissing(from: start, through: end, to: history) else { return }
      let segment = WALSegmentName(
        timeline: history.timeline(holding: missing), holding: missing, segmentSize: segmentSize)
      guard ContinuousClock.now < deadline else {
        throw DRError(
          .timedOut, "the archive did not get the WAL from \(missing) (in \(segment)) up to \(end) within \(limit)",
          advice:
            "see that the WAL receiver or the archive_command works; on a standby, end the segment on the primary "
            + "with SELECT pg_switch_wal()",
          component: component, object: "\(segment)")
      }
      if !hasSaid {
        logger.info(
          "waiting for WAL in the archive",
          metadata: ["postgres.wal.missing": "\(missing)", "postgres.wal.end": "\(end)"])
        hasSaid = true
      }
      onWait("WAL in the archive, from \(missing) (in \(segment)) up to \(end)")
      try await Task.sleep(for: .milliseconds(500))
    }
  }

  /// The history of a timeline, as far as it is there and can be read; without, the timeline stands alone.
  private func knownHistory(of timeline: UInt32, _ inventory: WALInventory) async throws -> TimelineHistory {
    guard inventory.histories[timeline] != nil else { return TimelineHistory(root: timeline) }
    do {
      return try await history(of: timeline)
    } catch let error as DRError where error.code == .noMatchingIdentity {
      return TimelineHistory(root: timeline)
    }
  }

  func otherSystem(_ identifier: String) -> DRError {
    DRError(
      .invalidConfiguration, "the server is the cluster \(identifier), and the archive is of \(systemIdentifier)",
      advice: "give each cluster its own archive; after initdb or pg_upgrade a cluster is another one",
      component: component)
  }
}
