extension RedisSandbox {
  /// How a sandbox is made.
  public struct Options: Sendable {
    /// The folder to make the sandbox's own folder in; nil: `$TMPDIR` or `/tmp`.
    public var parentFolder: String?
    /// More settings of the server, as in its configuration file; they win over those of a restored server.
    public var settings: [String: String] = [:]
    /// Keep an append-only file.
    public var appendOnly = false
    /// Listen with TLS on 127.0.0.1, with certificates that live as long as the sandbox; clients need one too.
    public var tls = false
    /// Listen on 127.0.0.1 too. Without, only this user can reach the server, by its socket.
    public var listensOnLoopback = false
    /// Masters of a cluster that share the slots; 0: no cluster. They listen on 127.0.0.1.
    public var clusterNodes = 0
    /// How long starting, with loading, may take; also stopping.
    public var startLimit: Duration = .seconds(120)

    public init(settings: [String: String] = [:], appendOnly: Bool = false) {
      self.settings = settings
      self.appendOnly = appendOnly
    }
  }

  /// One server of a sandbox.
  public struct Node: Sendable {
    public let dataFolder: String
    /// How to reach it.
    public let settings: RedisConnectionSettings
    /// By TCP, where it listens.
    public let port: Int?
    let busPort: Int?
    let runFolder: String
  }
}
