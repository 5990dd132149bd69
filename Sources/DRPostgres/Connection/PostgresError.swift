import CLibPQ
public import DRCore

/// What a PostgreSQL server said: an error, or a notice of it. The cause of a ``DRError`` that the server gave rise to.
public struct PostgresError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The five characters of PostgreSQL's "Error Codes"; nil if libpq itself failed, as when a connection broke.
  public var sqlState: String?
  /// `ERROR`, `FATAL`, `WARNING` … not translated.
  public var severity: String
  /// The server's message.
  public var message: String
  /// The server's detail. It may quote values of rows, so that no description shows it.
  public var detail: String?
  public var hint: String?

  public var description: String { "\(severity): " + (sqlState.map { "\($0): " } ?? "") + message }
}

extension DRError {
  /// The SQLSTATE of the PostgreSQL error under this one.
  public var sqlState: String? { (cause as? PostgresError)?.sqlState }

  init(_ error: PostgresError, from server: PostgresConnectionSettings, doing what: String) {
    self.init(.sourceFailed, "\(what) failed at \(server)", advice: error.hint ?? error.advice, cause: error)
  }
}

extension PostgresError {
  /// What to do about what an operator meets most often; nil for all else.
  ///
  /// Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
  fileprivate var advice: String? {
    switch sqlState {
    case nil where message.contains("no password supplied"):
      "give a password by PGPASSFILE (mode 0600) or PGPASSWORD"
    case nil: "see whether the server runs, can be reached at this address, and what its log says; then try again"
    case "28P01"?: "see the password (PGPASSFILE or PGPASSWORD) and that the role has one"
    case "28000"?, "42501"?:
      "see that the role exists, has the right (for replication ALTER ROLE … REPLICATION), and an entry in pg_hba.conf"
    case "3D000"?: "name a database that exists (PGDATABASE, or dbname=…)"
    case "57P01"?, "57P02"?, "57P03"?: "the server stops or starts: try again once it is up"
    case "53300"?: "free a connection, or raise max_connections or max_wal_senders"
    default: nil
    }
  }

  /// What a result says, for results that are errors or notices.
  init(result: OpaquePointer?) {
    func field(_ code: CChar) -> String? { PQresultErrorField(result, Int32(code)).map { String(cString: $0) } }
    self.init(
      sqlState: field(Field.sqlState), severity: field(Field.severity) ?? "ERROR",
      message: field(Field.message) ?? Self.tidy(PQresultErrorMessage(result)),
      detail: field(Field.detail), hint: field(Field.hint))
  }

  /// What a connection says, for failures that come without a result.
  ///
  /// libpq has no accessor for the SQLSTATE of a refused connection, but at verbosity `PQERRORS_VERBOSE` its message
  /// holds it: `… failed: FATAL:  28P01: password authentication failed for user "x"`, then a line `LOCATION: …`.
  init(connection: OpaquePointer?) {
    var text = Self.tidy(PQerrorMessage(connection))
    if let match = text.firstMatch(of: #/(?<severity>[A-Z]+):\s+(?<state>[0-9A-Z]{5}): /#) {
      let (severity, state) = (String(match.severity), String(match.state))
      text.replaceSubrange(match.range, with: "")
      let lines = text.split(separator: "\n")
      self.init(
        sqlState: state, severity: severity,
        message: lines.prefix { !$0.contains("LOCATION:") && !$0.hasPrefix("DETAIL:") }.joined(separator: " "))
    } else {
      self.init(severity: "ERROR", message: text.split(separator: "\n").joined(separator: " "))
    }
  }

  private static func tidy(_ message: UnsafePointer<CChar>?) -> String {
    guard let message else { return "no message" }
    let text = String(cString: message)
    let start = text.prefix { $0.isWhitespace }.endIndex
    return text.isEmpty ? "the connection is not usable" : String(text[start...])
  }

  /// `PG_DIAG_…`: C character macros, which Swift does not import.
  private enum Field {
    static let severity = CChar(UInt8(ascii: "V"))
    static let sqlState = CChar(UInt8(ascii: "C"))
    static let message = CChar(UInt8(ascii: "M"))
    static let detail = CChar(UInt8(ascii: "D"))
    static let hint = CChar(UInt8(ascii: "H"))
  }
}
