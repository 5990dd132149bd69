import CLibPQ
import DRCore
package import Logging

/// One connection to a PostgreSQL server, through libpq.
///
/// The actor runs on a queue of its own, so that no wait holds a thread of the cooperative pool. Every wait has a limit.
/// A wait that ends early, because its limit was reached or its task was cancelled, leaves an answer outstanding:
/// the server is told to stop (`PQcancel`) and the connection is closed, so that no backup goes on in the server.
///
/// Calls of one connection must not overlap.
package actor PostgresConnection {
  package nonisolated let settings: PostgresConnectionSettings
  nonisolated let logger: Logger
  private nonisolated let executor: BlockingExecutor
  /// What ends a wait from outside.
  nonisolated let wakeUp: WakeUp

  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private var handle: PostgresHandle?
  /// True between the answer that begins a copy and the end of its data.
  var isCopying = false

  private init(_ settings: PostgresConnectionSettings, logger: Logger) throws {
    self.settings = settings
    self.logger = logger
    executor = BlockingExecutor(label: "postgres.connection")
    wakeUp = try WakeUp()
  }

  /// Connects.
  ///
  /// - Parameter replication: Speak the physical replication protocol: `BASE_BACKUP`, `START_REPLICATION`.
  /// - Throws: ``DRError``: `sourceFailed` with a ``PostgresError`` as the cause when the server refuses or cannot be
  ///   reached; `timedOut`; `CancellationError`.
  package static func connect(
    _ settings: PostgresConnectionSettings, replication: Bool = false, logger: Logger
  ) async throws -> PostgresConnection {
    let connection = try PostgresConnection(settings, logger: logger)
    try await connection.open(replication: replication)
    return connection
  }

  /// Connects, runs the body, and closes the connection whatever happens.
  ///
  /// - Throws: What ``connect(_:replication:logger:)`` throws, or the body.
  package static func withConnection<Result>(
    _ settings: PostgresConnectionSettings, replication: Bool = false, logger: Logger,
    isolation: isolated (any Actor)? = #isolation, _ body: (PostgresConnection) async throws -> Result
  ) async throws -> Result {
    let connection = try await connect(settings, replication: replication, logger: logger)
    do {
      let result = try await body(connection)
      await connection.close()
      return result
    } catch {
      await connection.close()
      throw error
    }
  }

  /// Closes the connection. If the server is at work for it, it is told to stop. Never waits longer than two seconds;
  /// may be called again.
  package func close() {
    handle?.end(waitingFor: .seconds(2))
    handle = nil
    isCopying = false
  }

  package var isOpen: Bool { handle.map { PQstatus($0.connection) == CONNECTION_OK } ?? false }

  /// The server's version as a number: 150018 is 15.18.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` if the connection is closed.
  package var serverVersionNumber: Int { get throws { Int(PQserverVersion(try raw)) } }

  /// What the server reported of itself: `server_version`, `in_hot_standby`, `TimeZone`, …
  ///
  /// - Throws: ``DRError`` with `sourceFailed` if the connection is closed.
  package func parameterStatus(_ name: String) throws -> String? {
    PQparameterStatus(try raw, name).map { String(cString: $0) }
  }

  /// The server process that serves this connection.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` if the connection is closed.
  package var serverProcessID: Int32 { get throws { PQbackendPID(try raw) } }

  /// What the server said on the side (warnings, notices) since this was last asked; at most 1,000 are kept.
  package func takeNotices() -> [PostgresError] { handle?.notices.take() ?? [] }

  var raw: OpaquePointer {
    get throws {
      guard let handle else {
        throw DRError(.sourceFailed, "the connection to \(settings) is closed", advice: "connect again")
      }
      return handle.connection
    }
  }

  private func open(replication: Bool) async throws {
    try await wait {
      let handle = try PostgresHandle(settings, replication: replication, logger: logger)
      let connection = handle.connection
      let deadline = ContinuousClock.now + settings.connectTimeout
      // libpq asks to be called again once what it last named is possible; at first, writing.
      var state = PGRES_POLLING_WRITING
      while PQstatus(connection) != CONNECTION_BAD, state != PGRES_POLLING_OK, state != PGRES_POLLING_FAILED {
        try poll(
          connection, writing: state == PGRES_POLLING_WRITING, reading: state == PGRES_POLLING_READING,
          until: deadline, "the connection to be established")
        state = PQconnectPoll(connection)
      }
      guard PQstatus(connection) == CONNECTION_OK, PQsetnonblocking(connection, 1) == 0 else {
        throw DRError(PostgresError(connection: connection), from: settings, doing: "connecting")
      }
      PQsetErrorVerbosity(connection, PQERRORS_DEFAULT)
      self.handle = handle
    }
  }
}
