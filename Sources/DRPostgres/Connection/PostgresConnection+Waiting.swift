import CLibPQ
import DRCore
import Foundation

extension PostgresConnection {
  /// Runs blocking work whose waits end when the task is cancelled.
  ///
  /// - Parameter keepingOnCancel: Leave the connection open after a cancellation, for who wants to end a stream in good
  ///   order. Every other throw closes it unless it says that the server answered.
  func wait<Result>(keepingOnCancel: Bool = false, _ work: () throws -> Result) async throws -> Result {
    wakeUp.reset()
    return try await withTaskCancellationHandler {
      do {
        return try work()
      } catch is CancellationError where keepingOnCancel {
        throw CancellationError()
      } catch let error as DRError where error.cause is PostgresError && isOpen {
        // The server's own "no" leaves a connection that can be used.
        throw error
      } catch {
        close()
        throw error
      }
    } onCancel: {
      wakeUp.raise()
    }
  }

  /// Reads from the server until the attempt gives something.
  ///
  /// - Parameters:
  ///   - limit: How long nothing may arrive; asked anew before each wait.
  ///   - progressed: Whether something arrived since this was last asked: then more is likely there, and is read without
  ///     asking the socket first.
  /// - Returns: What the attempt gave, or nil when the limit was reached.
  func receive<Result>(
    within limit: @autoclosure () -> Duration, progressed: () -> Bool = { false },
    _ attempt: (OpaquePointer) throws -> Result?
  ) throws -> Result? {
    let connection = try raw
    // With TLS a record can be left half read inside the TLS library while the socket has nothing more to say. Two more
    // reads take the rest of it: a read takes 8 KiB or more, a record has 16 KiB.
    let readsBeforeWaiting = PQsslInUse(connection) == 0 ? 1 : 3
    var reads = 0
    var lastArrival = ContinuousClock.now
    while true {
      if wakeUp.isRaised { throw CancellationError() }
      if let result = try attempt(connection) { return result }
      if progressed() {
        lastArrival = .now
        reads = 0
      } else if reads >= readsBeforeWaiting {
        // What cannot be sent yet may be what the server waits for.
        let unsent = PQflush(connection)
        guard unsent >= 0 else { throw broken(connection) }
        let deadline = lastArrival + limit()
        guard try poll(connection, writing: unsent > 0, reading: true, until: deadline) else { return nil }
        lastArrival = .now
        reads = 0
      }
      reads += 1
      guard PQconsumeInput(connection) == 1 else {
        // What the server said before it went may have arrived; the attempt finds it.
        if let result = try attempt(connection) { return result }
        throw broken(connection)
      }
    }
  }

  /// Sends everything that libpq has queued.
  func flush(within limit: Duration, _ what: String) throws {
    let connection = try raw
    let deadline = ContinuousClock.now + limit
    while true {
      if wakeUp.isRaised { throw CancellationError() }
      switch PQflush(connection) {
      case 0: return
      case 1:
        try poll(connection, writing: true, reading: true, until: deadline, what)
        guard PQconsumeInput(connection) == 1 else { throw broken(connection) }
      default: throw broken(connection)
      }
    }
  }

  func poll(
    _ connection: OpaquePointer, writing: Bool, reading: Bool, until deadline: ContinuousClock.Instant, _ what: String
  ) throws {
    guard try poll(connection, writing: writing, reading: reading, until: deadline) else {
      throw timedOut(what)
    }
  }

  func timedOut(_ what: String) -> DRError {
    DRError(
      .timedOut, "waited too long for \(what) from PostgreSQL at \(settings)",
      advice: "see whether the server is reachable and not overloaded; the limits are part of the connection's settings"
    )
  }

  /// What is left to say when libpq gave up.
  func broken(_ connection: OpaquePointer) -> DRError {
    DRError(PostgresError(connection: connection), from: settings, doing: "talking to the server")
  }

  /// - Returns: False when the deadline passed.
  private func poll(
    _ connection: OpaquePointer, writing: Bool, reading: Bool, until deadline: ContinuousClock.Instant
  ) throws -> Bool {
    let events = (writing ? Int16(POLLOUT) : 0) | (reading ? Int16(POLLIN) : 0)
    while true {
      let left = ContinuousClock.now.duration(to: deadline)
      var descriptors = [
        pollfd(fd: PQsocket(connection), events: events, revents: 0),
        pollfd(fd: wakeUp.readEnd, events: Int16(POLLIN), revents: 0),
      ]
      guard descriptors[0].fd >= 0 else { throw broken(connection) }
      let ready = Foundation.poll(&descriptors, 2, max(left, .zero).milliseconds)
      if wakeUp.isRaised { throw CancellationError() }
      // Errors and hang-ups count as ready: the next call of libpq says what happened.
      if ready > 0, descriptors[0].revents != 0 { return true }
      if ready < 0, errno != EINTR {
        throw DRError(.sourceFailed, "poll failed: \(String(cString: strerror(errno)))")
      }
      if left <= .zero { return false }
    }
  }
}
