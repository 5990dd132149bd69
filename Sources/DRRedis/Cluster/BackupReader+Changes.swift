import DRCore
import NIOCore

extension BackupReader {
  /// Of a cluster's backup: what a shard was sent between its data set and the cut across shards, and how many commands of it
  /// change data.
  ///
  /// - Throws: ``DRError``: `malformedData`, `corruptData`; as ``BackupReader/read(_:)``.
  func changes(ofShard shard: Int) async throws -> (bytes: ByteBuffer, commands: Int) {
    let changes = try manifest.artifact("changes-\(shard).aof")
    // A few seconds of writes: what came while the data sets were taken.
    let bytes = try await read(changes).collect(limit: Int(changes.rawSize))
    var commands = 0
    var scanner = ReplicationCommandScanner()
    try bytes.withUnsafeReadableBytes { raw in
      try scanner.scan(raw) { command, _, _ in if command == .other { commands += 1 } }
    }
    guard scanner.isAtBoundary else {
      throw DRError(.corruptData, "the changes end in the middle of a command", object: changes.key.rawValue)
    }
    return (bytes, commands)
  }
}
