import DRCore

extension BackupManifest {
  /// How many shards a backup of a cluster has; nil if it is of one server.
  var shards: Int? { properties["mode"]?.string == "cluster" ? properties["shards"]?.array?.count : nil }

  /// The data sets: one, or one for each shard.
  ///
  /// - Throws: ``DRError`` with `malformedData` if one is not there.
  func dataSets() throws -> [Artifact] {
    guard let shards else { return [try artifact("dump.rdb")] }
    return try (0..<shards).map { try artifact("dump-\($0).rdb") }
  }
}
