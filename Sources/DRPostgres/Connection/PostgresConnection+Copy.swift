import CLibPQ
import DRCore
package import NIOCore

/// What the consumer of copy data says after each message.
package enum CopyControl: Sendable {
  case proceed
  /// Enough for now: the next message is for the next call.
  case pause
}

/// Why a call that takes copy data returned.
package enum CopyState: Sendable {
  /// The consumer paused.
  case paused
  /// Nothing more is there for now. Only when the caller said how long to wait.
  case idle
  /// The server has sent all; its next answer is next.
  case ended
}

/// One message of copy data, or why there is none.
package enum CopyMessage: Sendable {
  case data(ByteBuffer)
  case idle
  case ended
}

extension PostgresConnection {
  /// Takes messages of copy data until the consumer pauses or the copy ends.
  ///
  /// The async boundary is crossed once a call, not once a message, and the consumer runs on the connection's own thread
  /// with libpq's memory.
  ///
  /// - Parameters:
  ///   - state: What the consumer fills, as a frame.
  ///   - limit: How long the server may be silent; the settings' limit unless said.
  ///   - consume: Gets one whole message; the bytes are valid only within the call.
  /// - Throws: ``DRError`` (`timedOut`, `sourceFailed`), `CancellationError`, or what the consumer throws. After any of
  ///   these the server has been told to stop and the connection is closed.
  package func copyBatch<State: Sendable>(
    into state: inout State, limit: Duration? = nil,
    _ consume: @Sendable (inout State, UnsafeRawBufferPointer) throws -> CopyControl
  ) async throws -> CopyState {
    try await wait {
      let copied = try take(waiting: limit ?? settings.timeLimit, untilIdle: false, &state, consume)
      guard copied != .idle else { throw timedOut("copy data") }
      return copied
    }
  }

  /// Takes messages of copy data into the consumer's own memory until it pauses or the copy ends.
  ///
  /// This is the way of a base backup's bytes: libpq copies them once, from what it received to where they belong.
  /// ``copyBatch(into:limit:_:)`` has it copy each message into memory of its own first.
  ///
  /// - Parameters:
  ///   - state: What the consumer fills, as a frame.
  ///   - limit: How long the server may be silent; the settings' limit unless said.
  ///   - consume: Gets what writes one message into memory and returns its length, 0 if none is there. Of one that does
  ///     not fit it writes, and returns, as much as there is room for: offer more than a message can have. Returns nil
  ///     if there was none.
  /// - Throws: As ``copyBatch(into:limit:_:)``.
  package func copyBatch<State: Sendable>(
    filling state: inout State, limit: Duration? = nil,
    _ consume: @Sendable (inout State, (UnsafeMutableRawBufferPointer) -> Int) throws -> CopyControl?
  ) async throws -> CopyState {
    try await wait {
      guard isCopying else { return .ended }
      var progressed = false
      func hasProgressed() -> Bool {
        defer { progressed = false }
        return progressed
      }
      let copied: CopyState? = try receive(within: limit ?? settings.timeLimit, progressed: hasProgressed) {
        connection in
        while true {
          var count: Int32 = 0
          // Among libpq's functions for COPY this older one alone writes into the caller's memory.
          let control = try consume(&state) { memory in
            count = PQgetlineAsync(
              connection, memory.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(clamping: memory.count))
            return max(0, Int(count))
          }
          if count > 0 { progressed = true }
          if control == .pause { return .paused }
          if wakeUp.isRaised { throw CancellationError() }
          if count == 0 { return nil }
          if count < 0 {
            guard PQstatus(connection) == CONNECTION_OK else { throw broken(connection) }
            isCopying = false
            return .ended
          }
        }
      }
      guard let copied else { throw timedOut("copy data") }
      return copied
    }
  }

  /// Takes the messages of a stream that are there, waiting for the first no longer than is said: for streams that may be
  /// silent for long, such as WAL.
  ///
  /// - Returns: `idle` when there are no more for now, with or without any taken.
  /// - Throws: As ``copyBatch(into:limit:_:)``, but a cancelled task leaves the connection open, so that the caller can
  ///   end the stream in good order (from a task that is not cancelled).
  package func copyAvailable<State: Sendable>(
    into state: inout State, waiting: Duration,
    _ consume: @Sendable (inout State, UnsafeRawBufferPointer) throws -> CopyControl
  ) async throws -> CopyState {
    try await wait(keepingOnCancel: true) {
      try take(waiting: waiting, untilIdle: true, &state, consume)
    }
  }

  /// The next message of a stream, waiting for it no longer than is said.
  ///
  /// - Throws: As ``copyAvailable(into:waiting:_:)``.
  package func receiveCopyData(timeout: Duration) async throws -> CopyMessage {
    var message = ByteBuffer()
    let state = try await copyAvailable(into: &message, waiting: timeout) { message, bytes in
      message.writeBytes(bytes)
      return .pause
    }
    switch state {
    case .paused: return .data(message)
    case .idle: return .idle
    case .ended: return .ended
    }
  }

  /// Sends one message of copy data. It has been given to the network when this returns.
  ///
  /// - Throws: ``DRError``: `sourceFailed`, `timedOut`; `CancellationError`. The connection is closed then.
  package func sendCopyData(_ data: ByteBuffer) async throws {
    try await wait {
      let connection = try raw
      while true {
        let queued = data.withUnsafeReadableBytes { bytes in
          PQputCopyData(
            connection, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(clamping: bytes.count))
        }
        guard queued >= 0 else { throw broken(connection) }
        try flush(within: settings.timeLimit, "copy data to be taken")
        if queued == 1 { return }
      }
    }
  }

  /// Ends a copy from this side and, if the server was sending too, waits for its end. What the server still sends until
  /// then goes to the consumer.
  ///
  /// The server's answers follow: take them with ``nextResult(limit:)`` until there are no more.
  ///
  /// - Throws: As ``sendCopyData(_:)``.
  package func endCopy(_ consume: @Sendable (UnsafeRawBufferPointer) throws -> Void = { _ in }) async throws {
    try await wait {
      let connection = try raw
      while true {
        let queued = PQputCopyEnd(connection, nil)
        guard queued >= 0 else { throw broken(connection) }
        try flush(within: settings.timeLimit, "the end of the copy to be taken")
        if queued == 1 { break }
      }
      guard isCopying else { return }
      var nothing: Void = ()
      let state = try take(waiting: settings.timeLimit, untilIdle: false, &nothing) { _, bytes in
        try consume(bytes)
        return .proceed
      }
      guard state == .ended else { throw timedOut("the end of the copy") }
    }
  }

  private func take<State>(
    waiting limit: Duration, untilIdle: Bool, _ state: inout State,
    _ consume: (inout State, UnsafeRawBufferPointer) throws -> CopyControl
  ) throws -> CopyState {
    guard isCopying else { return .ended }
    var taken = false
    let copied: CopyState? = try receive(within: untilIdle && taken ? .zero : limit) { connection in
      while true {
        var message: UnsafeMutablePointer<CChar>?
        let count = PQgetCopyData(connection, &message, 1)
        defer { PQfreemem(message) }
        switch count {
        case 1...:
          taken = true
          let bytes = UnsafeRawBufferPointer(start: message, count: Int(count))
          if try consume(&state, bytes) == .pause { return .paused }
          if wakeUp.isRaised { throw CancellationError() }
        case 0: return nil
        case -1:
          isCopying = false
          return .ended
        default: throw broken(connection)
        }
      }
    }
    return copied ?? .idle
  }
}
