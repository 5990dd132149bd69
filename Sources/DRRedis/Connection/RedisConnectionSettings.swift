import DRCore
import Foundation

/// Where a Redis server is, and as whom to reach it.
public struct RedisConnectionSettings: Sendable, Hashable, CustomStringConvertible {
  public enum Address: Sendable, Hashable, CustomStringConvertible {
    case tcp(host: String, port: Int)
    case unix(path: String)

    public var description: String {
      switch self {
      case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
      case .unix(let path): path
      }
    }
  }

  /// Files in PEM.
  public struct TLS: Sendable, Hashable {
    /// Who signed the server's certificate; nil: the system's list.
    public var authorityFile: String?
    /// This client's own certificate and key, where the server asks for one.
    public var certificateFile: String?
    public var keyFile: String?
    /// The name in the server's certificate, if it is not the host.
    public var serverName: String?

    public init(
      authorityFile: String? = nil, certificateFile: String? = nil, keyFile: String? = nil, serverName: String? = nil
    ) {
      self.authorityFile = authorityFile
      self.certificateFile = certificateFile
      self.keyFile = keyFile
      self.serverName = serverName
    }
  }

  public var address: Address
  /// An ACL user; nil: the default user.
  public var user: String?
  public var password: RedisPassword?
  public var tls: TLS?
  public var database = 0
  /// How long connecting and signing on may take in all.
  public var connectTimeout: Duration = .seconds(15)
  /// How long any one wait for the server may take: an answer, or the next piece of one.
  public var timeLimit: Duration = .seconds(60)

  public init(host: String = "127.0.0.1", port: Int = 6379, user: String? = nil, password: RedisPassword? = nil) {
    address = .tcp(host: host, port: port)
    self.user = user
    self.password = password
  }

  public init(socket: String, user: String? = nil, password: RedisPassword? = nil) {
    address = .unix(path: socket)
    self.user = user
    self.password = password
  }

  /// Reads `redis://[user@]host[:port][/database]`, `rediss://…` (TLS) or `unix:///path`.
  ///
  /// - Throws: ``DRError`` with `invalidConfiguration`; also for a password, which has no place in a text that is shown.
  public init(url text: String) throws {
    func refuse(_ why: String) -> DRError {
      DRError(
        .invalidConfiguration, "this is no address of a Redis server: \(why)",
        advice: "write redis://user@host:port/database, rediss://… for TLS, or unix:///path")
    }
    guard let url = URLComponents(string: text), let scheme = url.scheme else { throw refuse("it cannot be read") }
    guard url.password == nil else {
      throw DRError(
        .invalidConfiguration, "an address with a password in it is shown to everybody on this host",
        advice: "put the password into a file or an environment variable")
    }
    switch scheme {
    case "unix":
      guard url.path.hasPrefix("/"), url.host ?? "" == "" else { throw refuse("a socket has an absolute path") }
      self.init(socket: url.path, user: url.user)
    case "redis", "rediss":
      guard let host = url.host, !host.isEmpty else { throw refuse("it has no host") }
      // Cut to 16 bits, it would be another server's.
      guard (1...65_535).contains(url.port ?? 6379) else { throw refuse("its port is none from 1 to 65535") }
      self.init(
        host: host.trimmingCharacters(in: ["[", "]"]), port: url.port ?? 6379,
        user: url.user.flatMap { $0.isEmpty ? nil : $0 })
      if scheme == "rediss" { tls = TLS() }
      let path = url.path.drop { $0 == "/" }
      if !path.isEmpty {
        guard let number = Int(path), number >= 0 else { throw refuse("the database is no number") }
        database = number
      }
    default: throw refuse("it begins with \(scheme.prefix(20))")
    }
  }

  /// The same server or another, reached in the same way.
  public func with(host: String, port: Int) -> Self {
    var copy = self
    copy.address = .tcp(host: host, port: port)
    return copy
  }

  public var description: String { (user.map { "\($0)@" } ?? "") + address.description + (tls == nil ? "" : " (TLS)") }
}
