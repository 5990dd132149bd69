public import DRCore

extension RedisChangeLog {
  /// How it follows, stores and waits.
  public struct Options: Sendable {
    /// How often what there is of the last segment is stored, if something new came: what a disaster can cost.
    public var partialInterval: Duration = .milliseconds(500)
    /// How often it is noted how far the log is durable, so that the loss of its end is seen.
    public var headInterval: Duration = .seconds(60)
    /// Bytes after which a segment is full.
    public var segmentSize = 8 << 20
    /// The folder of the plan's tree in which the snapshots lie that it takes by itself.
    public var cadence = Cadence.hourly
    /// How long the server may say nothing at all. It sends a heartbeat every `repl-ping-replica-period` (10 s).
    public var silenceLimit: Duration = .seconds(60)
    /// How often the Sentinels are asked, while a connection stands, whether another server is the master.
    public var sentinelInterval: Duration = .seconds(1)
    /// For how long a connection whose password the server refuses is tried again, once it was taken before, where the password
    /// is in a file: that is read again each time, and may follow the server's own after a while.
    public var passwordPatience: Duration = .seconds(300)
    /// The longest pause between two attempts to connect, or to store.
    public var longestPause: Duration = .seconds(30)
    /// Bytes that may wait to be stored in memory, and in a file: changes, and in a file of its own a snapshot.
    public var spoolMemory = 32 << 20
    public var spoolLimit: Int64 = 4 << 30
    /// Where the file is made; nil: `$TMPDIR` or `/tmp`.
    public var spoolFolder: String?
    /// How long a receiver that was killed keeps the next one out, about: the life of the lease under which changes are stored.
    public var leaseLife: Duration = .seconds(10)
    /// How long it waits at its start for another receiver of the component to end, before it gives up.
    public var leasePatience: Duration = .seconds(20)
    /// How long storing the rest may take when it is told to stop.
    public var shutdownLimit: Duration = .seconds(30)
    /// Take a new snapshot by itself where the log cannot go on. Without, it stops and names the gap.
    public var takesSnapshots = true

    public init() {}

    /// What comes while a snapshot is stored, the data set as well as the changes behind it, waits apart from the segments.
    var spool: RedisSpool {
      var spool = RedisSpool()
      spool.memory = min(spool.memory, spoolMemory)
      spool.fileLimit = spoolLimit
      spool.folder = spoolFolder
      return spool
    }
  }
}
