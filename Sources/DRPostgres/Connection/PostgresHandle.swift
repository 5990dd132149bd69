import CLibPQ
import DRCore
import Foundation
import Logging

/// Owns a libpq connection. When it goes, the connection is closed; if the server was still at work for it, it is told
/// to stop.
final class PostgresHandle {
  let connection: OpaquePointer
  let notices: PostgresNotices

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

  deinit {
    if PQtransactionStatus(connection) == PQTRANS_ACTIVE { Self.cancel(connection, waitingFor: .zero) }
    PQfinish(connection)
  }

  /// Asks the server to stop what it does for this connection.
  ///
  /// `PQcancel` blocks without a limit when the server hangs, so it has a thread of its own, which is waited for only as
  /// long as is said.
  func cancel(waitingFor limit: Duration) { Self.cancel(connection, waitingFor: limit) }

  private static func cancel(_ connection: OpaquePointer, waitingFor limit: Duration) {
    guard let request = CancelRequest(connection) else { return }
    let done = DispatchSemaphore(value: 0)
    DispatchQueue.global().async {
      request.send()
      done.signal()
    }
    _ = done.wait(timeout: .now() + .milliseconds(Int(limit.milliseconds)))
  }
}

/// `PGcancel` is a plain copy of addresses and keys that libpq lets any thread use; only one does.
private final class CancelRequest: @unchecked Sendable {
  private let request: OpaquePointer

  init?(_ connection: OpaquePointer) {
    guard let request = PQgetCancel(connection) else { return nil }
    self.request = request
  }

  deinit { PQfreeCancel(request) }

  func send() {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { message in
      // A failure means that the server is gone or does not answer; closing the connection is all that is left.
      _ = PQcancel(request, message.baseAddress, Int32(message.count))
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
