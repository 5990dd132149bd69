import CLibPQ
import DRCore
import Foundation

extension PostgresConnection {
  /// Runs one command and gives its rows; of several commands in one string, the rows of the last.
  ///
  /// - Parameters:
  ///   - parameters: The values of `$1`, `$2` … as text. Not on a replication connection, which has none.
  ///   - limit: How long the server may be silent; the settings' limit unless said.
  /// - Throws: ``DRError``: `sourceFailed` with a ``PostgresError`` as the cause, after which the connection can be used
  ///   again unless it broke; `timedOut` and `CancellationError`, after which it is closed.
  @discardableResult
  package func query(
    _ sql: String, _ parameters: [String?] = [], limit: Duration? = nil
  ) async throws -> PostgresRows {
    try await queryAll(sql, parameters, limit: limit).last ?? PostgresRows(commandTag: "")
  }

  /// Runs commands and gives each one's answer.
  ///
  /// - Throws: As ``query(_:_:limit:)``.
  package func queryAll(
    _ sql: String, _ parameters: [String?] = [], limit: Duration? = nil
  ) async throws -> [PostgresRows] {
    try await wait {
      let limit = limit ?? settings.timeLimit
      try start(sql, parameters, limit: limit)
      var all: [PostgresRows] = []
      while let result = try next(within: limit, "the answer to \(Self.verb(sql))") {
        switch result {
        case .rows(let rows): all.append(rows)
        case .command(let tag): all.append(PostgresRows(commandTag: tag))
        case .copyIn, .copyOut, .copyBoth:
          throw DRError(.invalidConfiguration, "\(Self.verb(sql)) begins a copy, which a query cannot carry")
        }
      }
      return all
    }
  }

  /// Sends a command whose answers are then taken with ``nextResult(limit:)``.
  ///
  /// - Throws: As ``query(_:_:limit:)``.
  package func send(_ sql: String) async throws {
    try await wait { try start(sql, [], limit: settings.timeLimit) }
  }

  /// The next answer to the command that was sent, or nil after the last. It must be called until it gives nil.
  ///
  /// - Parameter limit: How long the server may be silent; the settings' limit unless said.
  /// - Throws: As ``query(_:_:limit:)``.
  package func nextResult(limit: Duration? = nil) async throws -> PostgresResult? {
    try await wait { try next(within: limit ?? settings.timeLimit, "the server's next answer") }
  }

  private func start(_ sql: String, _ parameters: [String?], limit: Duration) throws {
    let connection = try raw
    guard PQtransactionStatus(connection) != PQTRANS_ACTIVE else {
      throw DRError(.invalidConfiguration, "the connection to \(settings) still answers an earlier command")
    }
    let sent: Int32
    if parameters.isEmpty {
      sent = PQsendQuery(connection, sql)
    } else {
      let values = parameters.map { $0.map { UnsafePointer<CChar>(strdup($0)) } ?? nil }
      defer { for value in values { free(UnsafeMutablePointer(mutating: value)) } }
      sent = PQsendQueryParams(connection, sql, Int32(clamping: values.count), nil, values, nil, nil, 0)
    }
    guard sent == 1 else { throw broken(connection) }
    try flush(within: limit, "\(Self.verb(sql)) to be taken")
  }

  func next(within limit: Duration, _ what: String) throws -> PostgresResult? {
    guard !isCopying else {
      throw DRError(.invalidConfiguration, "the copy from \(settings) was not taken to its end")
    }
    guard let result = try result(within: limit, what) else { return nil }
    switch result.status {
    case PGRES_TUPLES_OK, PGRES_SINGLE_TUPLE: return .rows(PostgresRows(result))
    case PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: return .command(PostgresRows(result).commandTag)
    case PGRES_COPY_OUT:
      isCopying = true
      return .copyOut
    case PGRES_COPY_BOTH:
      isCopying = true
      return .copyBoth
    case PGRES_COPY_IN: return .copyIn
    default:
      let error = PostgresError(result: result.pointer)
      // Whatever else the server says belongs to the failed command.
      while let rest = try self.result(within: limit, what) {
        guard ![PGRES_COPY_OUT, PGRES_COPY_BOTH, PGRES_COPY_IN].contains(rest.status) else {
          close()
          break
        }
      }
      throw DRError(error, from: settings, doing: "the command")
    }
  }

  private func result(within limit: Duration, _ what: String) throws -> PGResult? {
    let busy = try receive(within: limit) { PQisBusy($0) == 0 ? true : nil }
    guard busy != nil else { throw timedOut(what) }
    return PQgetResult(try raw).map { PGResult(pointer: $0) }
  }

  /// The first word of a command, which is safe to print: the rest may hold a password.
  private static func verb(_ sql: String) -> String {
    String(sql.drop { $0.isWhitespace }.prefix { $0.isLetter || $0 == "_" })
  }
}
