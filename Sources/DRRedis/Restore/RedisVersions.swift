/// What which server can read.
package enum RedisVersions {
  /// The newest version of the file format that a server reads.
  package static func newestRDB(of info: RedisInfo) -> Int {
    let parts = (info["valkey_version"] ?? info["redis_version"] ?? "").split(separator: ".").compactMap { Int($0) }
    let (major, minor) = (parts.first ?? 0, parts.count > 1 ? parts[1] : 0)
    if info["valkey_version"] != nil || info["server_name"] == "valkey" { return major >= 9 ? 80 : 11 }
    switch (major, minor) {
    case (..<4, _): return 7
    case (4, _): return 8
    case (5...6, _): return 9
    case (7, ..<2): return 10
    case (7, 2...3): return 11
    default: return 12
    }
  }
}
