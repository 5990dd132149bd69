import DRCore
import Foundation
import NIOCore

/// The one replica that is served, from its first word to its last acknowledgement.
///
/// One task sends; what comes back is read beside it, so that neither side waits for the other.
package final class ServedReplica: Sendable {
  private struct State {
    var machine = MasterStateMachine()
    var request: (history: String, port: Int?)?
    var acknowledged: Int64?
    /// Bytes that came from it.
    var heard: Int64 = 0
    /// Bytes of the stream through what was sent, with the heartbeats.
    var sent: Int64 = 0
    /// Through what has to be acknowledged.
    var wanted: Int64 = 0
    var lastSent = ContinuousClock.now
    /// The replica will close the connection: it is being made a master.
    var isEnding = false
  }

  private let link: RedisLink
  private let limit: Duration
  private let state = MutableBox(State())

  package init(_ link: RedisLink, limit: Duration) {
    self.link = link
    self.limit = limit
  }

  /// Runs the body with reading beside it; ends with the first of the two.
  package func run(_ body: @escaping @Sendable (ServedReplica) async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await body(self) }
      group.addTask { try await self.read() }
      group.addTask { try await self.keepAlive() }
      defer { group.cancelAll() }
      try await group.next()
    }
  }

  /// Answers until the replica asks for data, and looks whether it is the target.
  ///
  /// - Throws: ``DRError``: `timedOut`; `sourceFailed` for another one.
  package func handshake(expecting target: RedisInfo) async throws {
    let request = try await wait("the target to ask for data", limit) { $0.request }
    // Only the target, and who may ask it, knows the ID of its own history.
    let isTarget =
      request.history == target["master_replid"]
      || request.history == "?" && request.port.map { "\($0)" } == target["tcp_port"]
    guard isTarget else {
      throw DRError(
        .sourceFailed, "something else than the target asked for the data: it was given nothing",
        advice: "see who connects to this host", object: link.peer)
    }
  }

  /// The ID of a history that nobody else has.
  static func newHistory() -> String { (0..<40).map { _ in String(Int.random(in: 0..<16), radix: 16) }.joined() }

  /// Bytes that came from the replica: while it loads, it says again and again that it lives.
  var heard: Int64 { state.withLock { $0.heard } }

  /// Through what it has taken the stream; 0 before it has loaded.
  var acknowledged: Int64 { state.withLock { $0.acknowledged ?? 0 } }

  func send(header length: Int64, history: String, offset: Int64) async throws {
    state.withLock { $0.sent = offset }
    try await link.send(ByteBuffer(string: "+FULLRESYNC \(history) \(offset)\r\n$\(length)\r\n"), limit: limit)
  }

  func send(payload: ByteBuffer) async throws { try await link.send(payload, limit: limit) }

  /// Sends whole commands of the stream.
  func send(stream: ByteBuffer) async throws {
    try await link.send(stream, limit: limit)
    state.withLock { state in
      state.sent += Int64(stream.readableBytes)
      state.lastSent = .now
    }
  }

  /// Waits for the first acknowledgement, which it asks for right behind the data set.
  func waitUntilLoaded(limit: Duration) async throws { try await waitForAcknowledgement(limit, "the target to load") }

  /// Waits until the target has taken all that was sent.
  func waitUntilTaken(limit: Duration) async throws {
    try await waitForAcknowledgement(limit, "the target to take the change log")
  }

  private func waitForAcknowledgement(_ limit: Duration, _ what: String) async throws {
    let wanted = state.withLock { $0.sent }
    try await send(stream: Self.question)
    _ = try await wait(what, limit) { state in state.acknowledged.flatMap { $0 >= wanted ? $0 : nil } }
  }

  /// A master that says nothing is taken for dead (`repl-timeout`), also while the change log is slow to come. What is sent
  /// beside are whole commands, so that a heartbeat finds its place between two of them.
  private func keepAlive() async throws {
    while true {
      try await Task.sleep(for: .milliseconds(500))
      // Before it has loaded the data set, there is no stream.
      let isSilent = state.withLock {
        $0.acknowledged != nil && !$0.isEnding && $0.lastSent.duration(to: .now) > .seconds(1)
      }
      if isSilent { try await send(stream: Self.heartbeat) }
    }
  }

  private func wait<Value: Sendable>(
    _ what: String, _ limit: Duration, _ look: @escaping @Sendable (State) -> Value?
  ) async throws -> Value {
    let deadline = ContinuousClock.now + limit
    while true {
      if let value = state.withLock({ look($0) }) { return value }
      guard ContinuousClock.now < deadline else {
        throw DRError(
          .timedOut, "waited \(limit) for \(what)", advice: "see the target's log; --load-limit says how long to wait",
          object: link.peer)
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// From now on, the end of the connection is no failure.
  func expectEnd() { state.withLock { $0.isEnding = true } }

  static let ended = "the target ended the connection before it had taken everything"

  private func read() async throws {
    do {
      try await answer()
    } catch {
      guard state.withLock({ $0.isEnding }) else {
        guard let error = error as? DRError, error.code == .sourceFailed else { throw error }
        throw DRError(
          .sourceFailed, Self.ended,
          advice: "see its log, and whether its disk is full or its data folder cannot be written", object: link.peer,
          cause: error)
      }
      // Until the body has ended too.
      while true { try await Task.sleep(for: .seconds(1)) }
    }
  }

  private func answer() async throws {
    while true {
      for piece in try await link.receive(waiting: .seconds(1)) {
        state.withLock { $0.heard += Int64(piece.readableBytes) }
        let events = try state.withLock { try $0.machine.receive(piece) }
        for event in events {
          switch event {
          case .send(let bytes): try await link.send(bytes, limit: limit)
          case .synchronise(let history, let port): state.withLock { $0.request = (history, port) }
          case .acknowledged(let offset): state.withLock { $0.acknowledged = offset }
          }
        }
      }
    }
  }

  private static let question = command(["REPLCONF", "GETACK", "*"])
  private static let heartbeat = command(["PING"])

  private static func command(_ words: [String]) -> ByteBuffer {
    var buffer = ByteBuffer()
    buffer.writeRESPCommand(words)
    return buffer
  }
}
