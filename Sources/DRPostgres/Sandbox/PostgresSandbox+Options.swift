extension PostgresSandbox {
  /// How a sandbox is made.
  public struct Options: Sendable {
    /// The folder to make the sandbox's own folder in; nil: `$TMPDIR` or `/tmp`.
    public var parentFolder: String?
    /// The server's major version; nil: that of the data folder, or the newest installed.
    public var majorVersion: Int?
    /// The role to connect as. A restored data folder has the roles of its source.
    public var superuser = "postgres"
    /// More server settings, which win over those of a restored data folder. Over a caller's data folder they are part of
    /// the server's argument list, so that a password is refused here.
    public var settings: [String: String] = [:]
    /// Listen on 127.0.0.1 too, with passwords. Without, only this user can reach the server, by its socket.
    public var listensOnLoopback = false
    /// The size of WAL segments of a new cluster in MiB: a power of two up to 1024.
    public var walSegmentSize = 16
    /// Page checksums of a new cluster.
    public var dataChecksums = true
    /// Let the server wait for the disk. Without, a power cut (not the killing of processes) loses data. A caller's data
    /// folder is always treated so.
    public var isDurable = false
    /// Keep the libraries that a restored server preloads. They may act by themselves, as `pg_cron` does.
    public var keepsPreloadLibraries = false
    /// More environment for the server, as for the programs that it runs to fetch WAL.
    public var environment: [String: String] = [:]
    /// How long starting, without recovery, may take; also stopping.
    public var startLimit: Duration = .seconds(120)

    public init() {}

    /// The defaults with more server settings.
    public init(settings: [String: String]) { self.settings = settings }
  }

  /// When a start is over.
  public enum Readiness: Sendable, Hashable {
    /// As soon as the server answers, which it may do in the middle of recovery.
    case answering
    /// Once recovery has ended and the server takes writes.
    case promoted
  }

  /// How a server is told to stop.
  public enum StopMode: Sendable, Hashable {
    /// Connections are ended, data is written: a clean end.
    case fast
    /// At once; the next start recovers from WAL.
    case immediate
  }
}
