import DRCore
import Logging

/// A physical replication slot on a server.
struct ReplicationSlot {
  /// What the server says about a slot that exists.
  struct State: Hashable {
    /// From where on the server keeps WAL; nil if nothing is reserved: never used, or invalidated.
    var restart: LSN?
  }

  let name: String
  let connection: PostgresConnection
  let server: PostgresConnectionSettings
  let logger: Logger

  /// The slot's state, or nil if there is none.
  func read(_ identity: ServerIdentity) async throws -> State? {
    if identity.version >= 150_000 {
      let row = try await connection.query("READ_REPLICATION_SLOT \"\(name)\"").first
      guard row?["slot_type"] != nil else { return nil }
      return State(restart: row?["restart_lsn"].flatMap { LSN($0) })
    }
    // Before 15 only SQL can tell.
    let rows = try await PostgresConnection.withConnection(server, logger: logger) {
      try await $0.query(
        "SELECT slot_type, restart_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = $1", [name])
    }
    guard let row = rows.first else { return nil }
    guard row["slot_type"] == "physical" else {
      throw DRError(.invalidConfiguration, "the replication slot \(name) is not a physical one", object: name)
    }
    return State(restart: row["restart_lsn"].flatMap { LSN($0) })
  }

  /// Makes the slot. WAL from the last checkpoint's redo position on is kept from then on.
  func create(isTemporary: Bool = false) async throws {
    try await connection.query(
      "CREATE_REPLICATION_SLOT \"\(name)\" \(isTemporary ? "TEMPORARY " : "")PHYSICAL RESERVE_WAL")
  }

  func drop() async throws { try await connection.query("DROP_REPLICATION_SLOT \"\(name)\"") }
}
