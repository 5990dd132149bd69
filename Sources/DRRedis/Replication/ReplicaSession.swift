import DRCore
import Foundation
package import Logging
import NIOCore

/// One connection as a replica: asks, passes events on, and says every second what is durable.
///
/// One task calls ``next(waiting:)``. The heartbeat runs beside it, so that a consumer that is slow for a while is not taken
/// for dead (`repl-timeout`), and so that a server that sends without a file, which waits for it, goes on.
package final class ReplicaSession: Sendable {
  private struct State {
    var machine: ReplicaStateMachine
    var events: [ReplicaStateMachine.Event] = []
    var acknowledged: Int64 = 0
    var hasLength = false
  }

  private let connection: RedisConnection
  private let state: MutableBox<State>
  private let heartbeat: MutableBox<Task<Void, Never>?>
  private let limit: Duration

  private init(_ connection: RedisConnection, _ machine: ReplicaStateMachine) {
    self.connection = connection
    limit = connection.settings.timeLimit
    state = MutableBox(State(machine: machine))
    heartbeat = MutableBox(nil)
  }

  /// Connects, and sends the first request.
  ///
  /// - Parameter resuming: Ask for what follows this position; nil: ask for everything.
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`, `invalidConfiguration`.
  package static func start(
    _ settings: RedisConnectionSettings, resuming: ReplicationPosition? = nil, logger: Logger
  ) async throws -> ReplicaSession {
    var settings = settings
    settings.database = 0
    let connection = try await RedisConnection.connect(settings, logger: logger)
    var machine = ReplicaStateMachine(resuming: resuming)
    let first = machine.start()
    let session = ReplicaSession(connection, machine)
    do {
      for case .send(let bytes) in first { try await connection.write(bytes) }
      return session
    } catch {
      await session.close()
      throw error
    }
  }

  /// Where the stream is, with all that was received.
  package var position: ReplicationPosition? { state.withLock { $0.machine.position } }

  /// Whether the data set came without a length: the server sent it while it made it.
  package var sentWithoutFile: Bool { !state.withLock { $0.hasLength } }

  /// The next event that is not the session's own business; nil if none comes within the time.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `malformedData`; `CancellationError`.
  package func next(waiting time: Duration) async throws -> ReplicaStateMachine.Event? {
    let deadline = ContinuousClock.now + time
    while true {
      while let event = state.withLock({ $0.events.isEmpty ? nil : $0.events.removeFirst() }) {
        switch event {
        case .send(let bytes):
          try await connection.write(bytes)
          continue
        case .fullResync(let position), .continues(let position): begin(position)
        case .payloadBegins(let length): state.withLock { $0.hasLength = length != nil }
        default: break
        }
        return event
      }
      let left = ContinuousClock.now.duration(to: deadline)
      guard left > .zero else { return nil }
      let pieces = try await connection.link.receive(waiting: left)
      try state.withLock { state in
        for piece in pieces { state.events += try state.machine.receive(piece) }
      }
    }
  }

  /// Says at once, and from now on every second, that everything through an offset is durable.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`.
  package func acknowledge(_ offset: Int64) async throws {
    state.withLock { $0.acknowledged = max($0.acknowledged, offset) }
    try await connection.write(ReplicaStateMachine.acknowledgement(state.withLock { $0.acknowledged }))
  }

  /// From now on, the heartbeat says that everything through an offset is durable.
  package func setAcknowledged(_ offset: Int64) { state.withLock { $0.acknowledged = max($0.acknowledged, offset) } }

  /// Ends the heartbeat and closes the connection. May be called again.
  package func close() async {
    heartbeat.withLock { task in
      task?.cancel()
      task = nil
    }
    await connection.close()
  }

  private func begin(_ position: ReplicationPosition) {
    state.withLock { $0.acknowledged = max($0.acknowledged, position.offset) }
    let (connection, state) = (connection, state)
    heartbeat.withLock { task in
      guard task == nil else { return }
      task = Task {
        while !Task.isCancelled {
          let offset = state.withLock { $0.machine.mayAcknowledge ? $0.acknowledged : nil }
          // A broken connection is seen by who receives.
          if let offset { try? await connection.write(ReplicaStateMachine.acknowledgement(offset)) }
          try? await Task.sleep(for: .seconds(1))
        }
      }
    }
  }
}
