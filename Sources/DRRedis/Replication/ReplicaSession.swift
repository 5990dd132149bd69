import DRCore
import Foundation
package import Logging
import NIOCore

/// One connection as a replica: asks, takes what comes into a backlog, and says what is durable: at once and every second.
///
/// One task calls ``next(waiting:)``. Reading and the heartbeat run beside it, so that a consumer that is slow, or stands still,
/// is not taken for dead (`repl-timeout`), makes no output buffer of the server grow, and does not hold up a server that sends
/// without a file.
package final class ReplicaSession: Sendable {
  private struct State {
    var machine: ReplicaStateMachine
    var acknowledged: Int64 = 0
    var hasLength = false
    var hasStreamed = false
    /// When the last event that was given had come.
    var arrival = Arrival()
    var delay = StreamDelay()
    /// Asks the server how far it is.
    var asking: Task<Void, Never>?
    var reader: Task<Void, Never>?
    var heartbeat: Task<Void, Never>?
  }

  private static let largePiece = 128 << 10
  /// Seconds for which it may be held up before what comes then is late.
  private static let longestStop = 2.0

  private let connection: RedisConnection
  /// Whom to ask how far the server is, so that what comes late is known; nil: nobody needs to know.
  private let asked: RedisConnectionSettings?
  private let logger: Logger
  private let backlog: ReplicaBacklog
  private let state: MutableBox<State>
  /// More is durable: a client may wait for it (`WAIT`).
  private let more = WakeUp()

  private init(
    _ connection: RedisConnection, _ machine: ReplicaStateMachine, _ backlog: ReplicaBacklog,
    asked: RedisConnectionSettings?, _ logger: Logger
  ) {
    self.connection = connection
    self.asked = asked
    self.logger = logger
    self.backlog = backlog
    state = MutableBox(State(machine: machine))
  }

  /// Connects, and sends the first request.
  ///
  /// - Parameters:
  ///   - resuming: Ask for what follows this position; nil: ask for everything.
  ///   - onlyDataSet: Leave the server as soon as the data set has come.
  ///   - isDated: Find out what comes late, for which the server is asked how far it is (`INFO`, if the user may).
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`, `invalidConfiguration`.
  package static func start(
    _ settings: RedisConnectionSettings, resuming: ReplicationPosition? = nil, onlyDataSet: Bool = false,
    isDated: Bool = false, spool: RedisSpool = RedisSpool(), logger: Logger
  ) async throws -> ReplicaSession {
    var settings = settings
    settings.database = 0
    let connection = try await RedisConnection.connect(settings, logger: logger)
    var machine = ReplicaStateMachine(resuming: resuming)
    let first = machine.start()
    let session = ReplicaSession(
      connection, machine, ReplicaBacklog(spool), asked: isDated ? settings : nil, logger)
    do {
      for case .send(let bytes) in first { try await connection.write(bytes) }
      session.read(onlyDataSet: onlyDataSet)
      return session
    } catch {
      await session.close()
      throw error
    }
  }

  /// Whether the data set came without a length: the server sent it while it made it.
  package var sentWithoutFile: Bool { !state.withLock { $0.hasLength } }

  /// When what ``next(waiting:)`` gave last had come.
  package var arrival: Arrival { state.withLock { $0.arrival } }

  /// The next event that is not the session's own business; nil if none comes within the time.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `malformedData`, `notWritable`; `CancellationError`.
  package func next(waiting time: Duration) async throws -> ReplicaStateMachine.Event? {
    guard let (event, arrival) = try await backlog.next(waiting: time) else { return nil }
    state.withLock { $0.arrival = arrival }
    return event
  }

  /// Says at once, and from now on every second, that everything through an offset is durable.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`.
  package func acknowledge(_ offset: Int64) async throws {
    setAcknowledged(offset)
    try await connection.write(ReplicaStateMachine.acknowledgement(state.withLock { $0.acknowledged }))
  }

  /// The heartbeat says, at once and from now on, that everything through an offset is durable.
  package func setAcknowledged(_ offset: Int64) {
    let isMore = state.withLock { state in
      defer { state.acknowledged = max(state.acknowledged, offset) }
      return offset > state.acknowledged
    }
    if isMore { more.call() }
  }

  /// Ends reading and the heartbeat, and closes the connection. May be called again.
  package func close() async {
    let (reader, heartbeat, asking) = state.withLock { ($0.reader, $0.heartbeat, $0.asking) }
    heartbeat?.cancel()
    asking?.cancel()
    reader?.cancel()
    backlog.close()
    await connection.close()
    await reader?.value
  }

  private func read(onlyDataSet: Bool) {
    let reader = Task { [self] in
      do {
        while true {
          let pieces = try await connection.link.receive(waiting: .seconds(60))
          tick()
          for piece in pieces {
            for event in try state.withLock({ try $0.machine.receive(piece) }) {
              try await take(event)
              if onlyDataSet, case .payloadEnds = event { return await leave() }
            }
          }
          // A server that sends while it saves gives many small pieces, each of which would wake three threads: meanwhile
          // the connection gathers them.
          if state.withLock({ $0.machine.isInPayload }), pieces.reduce(0, { $0 + $1.readableBytes }) < Self.largePiece {
            try await Task.sleep(for: .milliseconds(4))
          }
        }
      } catch {
        backlog.end(error)
      }
    }
    state.withLock { $0.reader = reader }
  }

  private func take(_ event: ReplicaStateMachine.Event) async throws {
    switch event {
    case .send(let bytes): return try await connection.write(bytes)
    case .fullResync: beat()
    case .continues(let position):
      // What the server was asked to go on from.
      setAcknowledged(position.offset)
      catchUp()
      beat()
    case .stream(let bytes):
      let now = Date()
      let arrival = state.withLock { state in
        state.hasStreamed = true
        let end = state.machine.position?.offset ?? 0
        return state.delay.arrival(of: end - Int64(bytes.readableBytes), at: now)
      }
      try await backlog.add(event, arrival)
      // Held up, it has read nothing.
      if Date().timeIntervalSince(now) > Self.longestStop { catchUp(since: now) }
      return
    case .payloadBegins(let length): state.withLock { $0.hasLength = length != nil }
    // What was made meanwhile comes now.
    case .payloadEnds: catchUp()
    default: break
    }
    try await backlog.add(event)
  }

  private func tick() {
    if let question = state.withLock({ $0.delay.tick(Date()) }) { ask(question) }
  }

  private func catchUp(since: Date? = nil) {
    ask(state.withLock { $0.delay.begin(since: since) })
  }

  /// All that the server has made until it answers is late.
  private func ask(_ question: Int) {
    guard let asked else { return state.withLock { $0.delay.found(0, question: question) } }
    let asking = Task { [state, logger] in
      let answer = try? await RedisConnection.withConnection(asked, logger: logger) {
        try await $0.send(["INFO", "replication"])
      }
      var offset = answer.flatMap { RedisInfo.readable($0) }?.integer("master_repl_offset")
      if offset == nil {
        // This user may not ask. What comes within a second is taken for late.
        try? await Task.sleep(for: .seconds(1))
        offset = state.withLock { $0.machine.position?.offset }
      }
      let found = offset ?? 0
      state.withLock { $0.delay.found(found, question: question) }
    }
    state.withLock { state in
      state.asking?.cancel()
      state.asking = asking
    }
  }

  private func leave() async {
    state.withLock { $0.heartbeat }?.cancel()
    await connection.close()
    backlog.end(DRError(.sourceFailed, "nothing but the data set was asked for"))
  }

  /// Of a full synchronisation, nothing is acknowledged before somebody says that it is durable; the server hears from us all
  /// the same.
  private func beat() {
    let heartbeat = Task { [self] in
      while !Task.isCancelled {
        tick()
        let (offset, isWaiting) = state.withLock { state in
          (
            state.machine.mayAcknowledge ? state.acknowledged : nil, state.machine.isStreaming && !state.hasStreamed
          )
        }
        // A broken connection is seen by who receives.
        if let offset { try? await connection.write(ReplicaStateMachine.acknowledgement(offset)) }
        // Until its first byte comes, the stream of a server that sent without a file waits for an acknowledgement that it
        // hears: one that comes while it still ends its child is lost.
        await more.wait(offset == nil || isWaiting ? .milliseconds(100) : .seconds(1))
      }
    }
    state.withLock { state in
      state.heartbeat?.cancel()
      state.heartbeat = heartbeat
    }
  }
}
