import CLibPQ
import DRCore
import Foundation
import Logging

/// Owns a libpq connection. When it goes, the connection is closed; a server that is still at work for it is told to
/// stop.
final class PostgresHandle {
  let connection: OpaquePointer
  let notices: PostgresNotices
  private var hasEnded = false

  /// Begins to connect; does not wait.
  ///
  /// - Throws: ``DRError`` with `sourceFailed` when there is no memory.
  init(_ settings: PostgresConnectionSettings, replication: Bool, logger: Logger) throws {
    let parameters = settings.parameters(replication: replication)
    var keywords = parameters.map { UnsafePointer(strdup($0.keyword)) }
    var values = parameters.map { UnsafePointer(strdup($0.value)) }
    defer { for text in keywords + values { free(UnsafeMutablePointer(mutating: text)) } }
    keywords.append(nil)
    values.append(nil)
    guard let connection = PQconnectStartParams(keywords, values, 0) else {
      throw DRError(.sourceFailed, "no memory for a connection")
    }
    self.connection = connection
    notices = PostgresNotices(logger: logger)
    PQsetErrorVerbosity(connection, PQERRORS_VERBOSE)
    PQsetNoticeReceiver(connection, noticeReceiver, Unmanaged.passUnretained(notices).toOpaque())
  }

  deinit { end(waitingFor: .zero) }

  /// Closes the connection; after this it must not be used.
  ///
  /// A server that is at work for it is first told to stop, which takes a thread of its own: `PQcancel` blocks without a
  /// limit when the server hangs. That is waited for only as long as is said.
  func end(waitingFor limit: Duration) {
    guard !hasEnded else { return }
    hasEnded = true
    guard PQtransactionStatus(connection) == PQTRANS_ACTIVE, let ending = PostgresEnding(self) else {
      return PQfinish(connection)
    }
    let done = DispatchSemaphore(value: 0)
    DispatchQueue.global().async {
      ending.run()
      done.signal()
    }
    _ = done.wait(timeout: .now() + .milliseconds(Int(limit.milliseconds)))
  }
}

/// Tells the server to stop, waits until it has, and closes the connection, which it takes over from the handle: no other
/// thread uses that any more, which makes this sound.
private final class PostgresEnding: @unchecked Sendable {
  /// Past this the connection is closed in any case.
  private static let limit = Duration.seconds(10)

  private let connection: OpaquePointer
  private let request: OpaquePointer
  /// Kept alive because libpq reports to it.
  private let notices: PostgresNotices

  init?(_ handle: PostgresHandle) {
    guard let request = PQgetCancel(handle.connection) else { return nil }
    self.request = request
    connection = handle.connection
    notices = handle.notices
  }

  func run() {
    let deadline = ContinuousClock.now + Self.limit
    repeat {
      withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { message in
        _ = PQcancel(request, message.baseAddress, Int32(message.count))
      }
      // A request that arrives before the server has read the command is without effect: so it is repeated.
    } while !hasStopped(within: .milliseconds(200)) && ContinuousClock.now < deadline
    PQfreeCancel(request)
    PQfinish(connection)
  }

  private func hasStopped(within limit: Duration) -> Bool {
    let deadline = ContinuousClock.now + limit
    while !hasNothingMoreToSay() {
      var descriptor = pollfd(fd: PQsocket(connection), events: Int16(POLLIN), revents: 0)
      let left = max(ContinuousClock.now.duration(to: deadline), .zero)
      guard poll(&descriptor, 1, left.milliseconds) != 0 else { return false }
      guard PQconsumeInput(connection) == 1 else { return true }
    }
    return true
  }

  /// Drops what has arrived.
  private func hasNothingMoreToSay() -> Bool {
    while true {
      var message: UnsafeMutablePointer<CChar>?
      let copied = PQgetCopyData(connection, &message, 1)
      PQfreemem(message)
      if copied > 0 { continue }
      if copied == 0 || PQisBusy(connection) == 1 { return false }
      guard let result = PQgetResult(connection) else { return true }
      if [PGRES_COPY_IN, PGRES_COPY_BOTH].contains(PQresultStatus(result)) {
        PQputCopyEnd(connection, "cancelled")
        PQflush(connection)
      }
      PQclear(result)
    }
  }
}

/// Takes what the server says on the side: to the log, and to who asks for it.
final class PostgresNotices: Sendable {
  /// No more than these are kept; a server that finds a whole table damaged says so for each page.
  static let limit = 1000

  private let logger: Logger
  private let kept = MutableBox<[PostgresError]>([])

  init(logger: Logger) { self.logger = logger }

  func take() -> [PostgresError] {
    kept.withLock { notices in
      defer { notices = [] }
      return notices
    }
  }

  func receive(_ notice: PostgresError) {
    logger.log(
      level: notice.severity == "WARNING" ? .info : .debug, "server notice",
      metadata: [
        "postgres.severity": "\(notice.severity)", "postgres.sqlstate": "\(notice.sqlState ?? "")",
        "postgres.message": "\(notice.message)",
      ])
    kept.withLock { if $0.count < Self.limit { $0.append(notice) } }
  }
}

private func noticeReceiver(_ context: UnsafeMutableRawPointer?, _ result: OpaquePointer?) {
  guard let context else { return }
  // The handle owns the notices and outlives every call of libpq.
  Unmanaged<PostgresNotices>.fromOpaque(context).takeUnretainedValue().receive(PostgresError(result: result))
}

extension Duration {
  /// Whole milliseconds, rounded up, within what `poll` takes.
  var milliseconds: Int32 {
    let (seconds, attoseconds) = components
    guard seconds < 2_000_000 else { return 2_000_000_000 }
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    return Int32(seconds) * 1000 + Int32((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
  }
}
