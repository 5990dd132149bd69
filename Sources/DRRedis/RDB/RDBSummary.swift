/// What an RDB file holds, counted while it was read.
public struct RDBSummary: Sendable, Hashable, Codable {
  /// What became of the checksum at the end of the file.
  public enum Checksum: String, Sendable, Codable {
    /// It is the checksum of the bytes.
    case verified
    /// The file has none: the server's `rdbchecksum` is off, or it is older than Redis 2.6. Nothing vouches for the bytes.
    case absent
  }

  /// A key that takes much of the file.
  public struct Key: Sendable, Hashable, Codable {
    /// The name; what is no text is shown as `\x00`, and a long name is cut.
    public var name: String
    public var database: Int
    /// As the server's `TYPE` says it.
    public var type: String
    /// Bytes of key and value in the file, which may be compressed there.
    public var bytes: Int64
  }

  /// The version of the format: 10 for Redis 7.0.
  public var version: Int
  /// Bytes of the file.
  public var bytes: Int64
  public var checksum: Checksum
  /// What the server wrote about itself: `redis-ver`, `ctime`, `used-mem`, `repl-id`, `repl-offset`, ….
  public var aux: [String: String]
  /// Databases that hold keys, by their number. Keys whose time is past are counted as they are in the file.
  public var keysPerDatabase: [Int: Int]
  /// How many keys of a database have a time to live.
  public var expiriesPerDatabase: [Int: Int]
  /// How many keys the file itself says that a database has, where it does (`RESIZEDB`). A server takes it for a hint, and
  /// loads what is there.
  public var statedKeysPerDatabase: [Int: Int]
  /// How many of them it says have a time to live.
  public var statedExpiriesPerDatabase: [Int: Int]
  /// By what the server's `TYPE` says.
  public var keysByType: [String: Int]
  /// By the number of the type in the file, which tells the encoding.
  public var keysByEncoding: [Int: Int]
  /// The largest first.
  public var largestKeys: [Key]
  /// Function libraries.
  public var functions: Int
  /// Types of modules that have values or data of their own in the file.
  public var moduleNames: [String]
  /// Values that were to be looked into and were too long for it.
  public var uncheckedValues: Int

  /// Where what the file says of itself is not what was counted, in words; nil if it agrees, or says nothing.
  public var disagreement: String? {
    let differences = statedKeysPerDatabase.keys.sorted().compactMap { database -> String? in
      let stated = (statedKeysPerDatabase[database] ?? 0, statedExpiriesPerDatabase[database] ?? 0)
      let counted = (keysPerDatabase[database] ?? 0, expiriesPerDatabase[database] ?? 0)
      guard stated != counted else { return nil }
      return "database \(database) is said to have \(stated.0) keys, \(stated.1) with a time to live, "
        + "and has \(counted.0) and \(counted.1)"
    }
    return differences.isEmpty ? nil : differences.prefix(10).joined(separator: "; ")
  }

  /// Keys of all databases.
  public var keys: Int { keysPerDatabase.values.reduce(0, +) }
  /// Keys with a time to live, of all databases.
  public var expiries: Int { expiriesPerDatabase.values.reduce(0, +) }
}
