import Foundation

/// Where a PostgreSQL server is, and as whom to reach it.
///
/// What is left nil is libpq's own business: the `PG…` environment variables, the password file (`PGPASSFILE`,
/// `~/.pgpass`) and its defaults. The password is shown by no description, no mirror and no error.
public struct PostgresConnectionSettings: Sendable, Hashable {
  /// How much TLS is asked for, in libpq's words.
  public enum SSLMode: String, Sendable, Hashable {
    case disable, allow, prefer, require
    case verifyCA = "verify-ca"
    case verifyFull = "verify-full"
  }

  /// A host name, an address, or the folder of a Unix socket (it starts with `/`).
  public var host: String?
  /// The port, which also names the socket file in a socket folder.
  public var port: UInt16?
  public var user: String?
  public var database: String?
  /// Better kept in the password file. Never printed.
  public var password: String?
  public var sslMode: SSLMode?
  /// The file of certificates to trust (`sslrootcert`).
  public var rootCertificate: String?
  /// What `pg_stat_activity` and `pg_stat_replication` call this connection.
  public var applicationName: String
  /// How long connecting may take in all, for all hosts if there are several. (Name resolution is bounded by the
  /// resolver's own limit.)
  public var connectTimeout: Duration
  /// How long any one wait for the server may take: an answer, or the next piece of one.
  public var timeLimit: Duration
  /// Any other parameter of libpq by its keyword: `sslcert`, `sslkey`, `passfile`, `target_session_attrs`, `options` …
  public var otherParameters: [String: String]

  public init(
    host: String? = nil, port: UInt16? = nil, user: String? = nil, database: String? = nil, password: String? = nil,
    sslMode: SSLMode? = nil, rootCertificate: String? = nil, applicationName: String = "disaster-recovery",
    connectTimeout: Duration = .seconds(15), timeLimit: Duration = .seconds(60), otherParameters: [String: String] = [:]
  ) {
    self.host = host
    self.port = port
    self.user = user
    self.database = database
    self.password = password
    self.sslMode = sslMode
    self.rootCertificate = rootCertificate
    self.applicationName = applicationName
    self.connectTimeout = connectTimeout
    self.timeLimit = timeLimit
    self.otherParameters = otherParameters
  }

  /// The same server, with another database.
  public func with(database: String) -> Self {
    var copy = self
    copy.database = database
    return copy
  }
}

extension PostgresConnectionSettings: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// User, host, port and database, host and port as libpq's environment variables have them where they are not given; never
  /// the password.
  public var description: String {
    var text = user.map { "\($0)@" } ?? ""
    let environment = ProcessInfo.processInfo.environment
    text += host ?? environment["PGHOST"] ?? "default host"
    if let port = port.map(String.init) ?? environment["PGPORT"] { text += ":\(port)" }
    if let database { text += " database \(database)" }
    return text
  }

  public var debugDescription: String { description }

  /// Only what ``description`` says, so that `dump` and string interpolation of an enclosing value show no password.
  public var customMirror: Mirror { Mirror(self, children: ["server": description]) }
}
