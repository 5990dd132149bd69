/// Which keys of a backup to restore, and under which names.
public struct RedisKeySelection: Sendable, Hashable {
  /// Patterns as `KEYS` takes them; a key has to match one. Empty: every key.
  public var patterns: [String]
  /// Types as `TYPE` says them: `string`, `list`, `set`, `zset`, `hash`, `stream`. Empty: every type.
  public var types: Set<String>
  /// Databases of the backup. Empty: every one.
  public var databases: Set<Int>
  /// Names that start with the first part get the second instead of it.
  public var renamedPrefix: (from: String, to: String)? {
    get { prefix.map { ($0.from, $0.to) } }
    set { prefix = newValue.map { Prefix(from: $0.from, to: $0.to) } }
  }
  /// Where keys of a database of the backup go; those that are not named here stay in theirs.
  public var movedDatabases: [Int: Int]

  private struct Prefix: Sendable, Hashable {
    var from: String
    var to: String
  }
  private var prefix: Prefix?

  public init(
    patterns: [String] = [], types: Set<String> = [], databases: Set<Int> = [],
    renamedPrefix: (from: String, to: String)? = nil, movedDatabases: [Int: Int] = [:]
  ) {
    self.patterns = patterns
    self.types = types
    self.databases = databases
    self.movedDatabases = movedDatabases
    self.renamedPrefix = renamedPrefix
  }
}
