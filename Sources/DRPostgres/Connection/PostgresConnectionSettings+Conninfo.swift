import CLibPQ
import DRCore

extension PostgresConnectionSettings {
  /// Reads a libpq connection string: `host=… dbname=…` or `postgresql://…`.
  ///
  /// Source: libpq, "Connection Strings". What the string does not say stays nil.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration` if libpq cannot read it. The error quotes no part of the string,
  ///   because it may hold a password.
  public init(conninfo: String) throws {
    // libpq's own message is dropped on purpose: it quotes the place where it stopped.
    var message: UnsafeMutablePointer<CChar>?
    let options = PQconninfoParse(conninfo, &message)
    if let message { PQfreemem(message) }
    guard let options, !conninfo.utf8.contains(0) else {
      throw DRError(
        .invalidConfiguration, "the PostgreSQL connection string cannot be read",
        advice: "write 'host=… port=… user=… dbname=…' or postgresql://user@host:port/database")
    }
    defer { PQconninfoFree(options) }

    self.init()
    var option = options
    while let keyword = option.pointee.keyword {
      if let value = option.pointee.val { try set(String(cString: keyword), to: String(cString: value)) }
      option += 1
    }
  }

  private mutating func set(_ keyword: String, to value: String) throws {
    func refuse(_ wanted: String) -> DRError {
      DRError(.invalidConfiguration, "the connection string's \(keyword) must be \(wanted)")
    }
    switch keyword {
    case "host": host = value
    case "user": user = value
    case "dbname": database = value
    case "password": password = value
    case "sslrootcert": rootCertificate = value
    case "application_name": applicationName = value
    case "port":
      if let number = UInt16(value) { port = number } else { otherParameters[keyword] = value }
    case "sslmode":
      guard let mode = SSLMode(rawValue: value) else { throw refuse("one of libpq's modes, as in verify-full") }
      sslMode = mode
    case "connect_timeout":
      guard let seconds = Int32(value) else { throw refuse("a number of seconds") }
      // Zero and less mean "no limit" to libpq; here every wait has one.
      if seconds > 0 { connectTimeout = .seconds(max(2, Int64(seconds))) }
    default: otherParameters[keyword] = value
    }
  }

  /// The keywords and values to hand to libpq.
  func parameters(replication: Bool) -> [(keyword: String, value: String)] {
    var all = [
      // A peer that vanished without a word is noticed within about a minute.
      "keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3",
      "tcp_user_timeout": "60000",
    ]
    if !replication { all["client_encoding"] = "UTF8" }
    all.merge(otherParameters) { _, chosen in chosen }
    all["host"] = host ?? all["host"]
    all["port"] = port.map(String.init) ?? all["port"]
    all["user"] = user ?? all["user"]
    all["dbname"] = database ?? all["dbname"]
    all["password"] = password ?? all["password"]
    all["sslmode"] = sslMode?.rawValue ?? all["sslmode"]
    all["sslrootcert"] = rootCertificate ?? all["sslrootcert"]
    all["application_name"] = applicationName
    if replication {
      all["replication"] = "true"
      // As the server's own tools do: it is the name that the password file lists for replication.
      all["dbname"] = "replication"
    }
    return all.map { ($0.key, $0.value) }.sorted { $0.keyword < $1.keyword }
  }
}
