import DRCore

/// Another connection that holds the replication slot: another receiver, or what a server still keeps of one that died.
struct SlotHolder {
  /// `object_in_use`.
  static let state = "55006"

  private var since: ContinuousClock.Instant?
  private var refusals = 0

  /// Takes note of the server's answer, and says it as it is.
  mutating func refused(_ error: DRError, _ slot: String) -> DRError {
    since = since ?? .now
    refusals += 1
    // It names the process.
    let said = (error.cause as? PostgresError)?.message ?? error.message
    return DRError(
      .sourceFailed, "another receiver holds the replication slot: \(said)",
      advice:
        "end that one, or give this one a slot of its own; a connection that died is forgotten after the server's "
        + "wal_sender_timeout", component: error.component, object: slot)
  }

  /// A receiver that is started again meets its former connection for a moment.
  var isWorthSaying: Bool { refusals >= 3 }

  /// How long it has held it.
  var time: Duration { since.map { $0.duration(to: .now) } ?? .zero }
}
