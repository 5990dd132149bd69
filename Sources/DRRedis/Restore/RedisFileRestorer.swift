public import DRCore
import Foundation
public import Logging
import NIOCore

/// Puts a snapshot where a stopped server will load it.
///
/// With `appendonly yes` it becomes the base of the append-only files, with a manifest: a copied `dump.rdb` would be
/// ignored and then overwritten. With `appendonly no` it becomes the RDB file. With a change log, what happened after the
/// snapshot follows as an increment, up to the target, never into a transaction; that needs append-only files. Keys whose
/// time has passed since the target expire when the server starts.
///
/// The whole file is read and its checksum compared before anything in the folder changes. Then the new files take their
/// places by rename, in one step where the system can exchange two names; what was there is kept beside, as
/// `….before-<time>`, and never removed. When it returns, everything is durable.
///
/// What a crash leaves: `….restoring-<time>`, which no server loads and which can be removed, or the new files in place and
/// not all old ones aside yet.
///
/// The server must be stopped. One that runs on the folder is refused where it can be seen: by root or its own user, in the
/// same container, on Linux.
public struct RedisFileRestorer: Restorer {
  /// What was restored.
  public struct Report: Sendable {
    public var outcome: RestoreOutcome
    public var summary: RDBSummary
    /// Commands after the snapshot.
    public var commands: Int
    /// How far the data goes; nil if the snapshot does not say where it stands.
    public var position: String?
    /// Where that which was there before is now.
    public var movedAside: [String]
  }

  public var layout: RedisDataLayout
  /// Where the changes after the snapshot are. Without, only the snapshot itself can be restored.
  public var archive: RedisLogArchive?
  /// Who owns the files when root restores: a user's name. Nil: who owned the former ones, else who owns the data folder,
  /// else who owns the folder above it.
  public var owner: String?
  /// Take a file without a checksum.
  public var acceptsMissingChecksum: Bool
  /// Which shard of a cluster's backup, from 0. Its changes up to the cut across shards come too, and its `nodes.conf`
  /// (``RedisDataLayout/clusterFile``): a node that is started with it is who it was, at the address that it has now.
  public var shard: Int?
  public var progress: ProgressHandler?

  public init(
    layout: RedisDataLayout, archive: RedisLogArchive? = nil, owner: String? = nil,
    acceptsMissingChecksum: Bool = false, progress: ProgressHandler? = nil
  ) {
    self.layout = layout
    self.archive = archive
    self.owner = owner
    self.acceptsMissingChecksum = acceptsMissingChecksum
    self.progress = progress
  }

  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    try await restoreFiles(from: reader, to: target, logger: logger).outcome
  }

  /// As ``restore(from:to:logger:)``, and says more.
  ///
  /// - Throws: ``DRError``: `destinationInUse`, `targetUnreachable`, `corruptData`, `malformedData`, `noSpace`,
  ///   `notWritable`.
  public func restoreFiles(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> Report {
    let manifest = reader.manifest
    do {
      guard manifest.component.kind == .redis else {
        throw DRError(.invalidConfiguration, "backup \(manifest.id) is no backup of Redis")
      }
      if let shards = manifest.shards { return try await restoreShard(of: shards, reader, target, logger) }
      guard shard == nil else {
        throw DRError(.invalidConfiguration, "backup \(manifest.id) is not of a cluster: it has no shards")
      }
      let replay = try await RedisReplay.find(manifest, to: target, in: archive)
      if let replay, replay.commands > 0, layout.appendOnly == .off {
        throw DRError(
          .targetUnreachable, "\(replay.commands) changes after the snapshot cannot be put into an RDB file",
          advice: "restore online, or for a server with appendonly yes, or ask for the snapshot alone (--immediate)")
      }
      let artifact = try manifest.artifact("dump.rdb")
      let after = replay.map { replay in
        Increment(
          content: layout.appendOnly == .singleFile ? replay.commandsAlone : replay.appendOnlyFile,
          commands: replay.commands, bytes: replay.bytes)
      }
      var report = try await restoreFiles(
        from: try await reader.read(artifact), size: artifact.rawSize, object: artifact.key.rawValue, after,
        logger: logger)
      report.position = replay.map { "\($0.end.offset)" } ?? manifest.recoveryPoint.position
      note(report, manifest, logger)
      return report
    } catch var error as DRError {
      error.component = error.component ?? manifest.component
      throw error
    }
  }

  /// Restores an RDB file that is given as bytes.
  ///
  /// - Parameters:
  ///   - size: The length in bytes, where it is known.
  ///   - object: Names the file in errors.
  /// - Throws: As ``restoreFiles(from:to:logger:)``.
  public func restoreFiles(from content: ByteStream, size: Int64?, object: String) async throws -> Report {
    try await restoreFiles(from: content, size: size, object: object, nil, logger: nil)
  }

  /// What follows the snapshot: an append-only file.
  private struct Increment {
    var content: ByteStream
    var commands: Int
    var bytes: Int64
  }

  /// One shard of a cluster, at the moment that all of them share.
  private func restoreShard(
    of shards: Int, _ reader: any BackupReader, _ target: RecoveryTarget, _ logger: Logger
  ) async throws -> Report {
    let manifest = reader.manifest
    guard let shard, (0..<shards).contains(shard) else {
      throw DRError(
        .invalidConfiguration, "backup \(manifest.id) is of a cluster of \(shards) shards",
        advice: "say which one this node is to hold: 0 to \(shards - 1)")
    }
    // There is nothing after it: of a cluster there is no change log.
    _ = try await RedisReplay.find(manifest, to: target, in: nil)
    let (bytes, commands) = try await reader.changes(ofShard: shard)
    if commands > 0, layout.appendOnly == .off {
      throw DRError(
        .targetUnreachable, "\(commands) changes between the data set and the cut cannot be put into an RDB file",
        advice: "start the node with appendonly yes, or restore key by key")
    }
    let dump = try manifest.artifact("dump-\(shard).rdb")
    let nodes = try await reader.read(manifest.artifact("nodes-\(shard).conf")).collect(limit: 16 << 20)
    var report = try await restoreFiles(
      from: try await reader.read(dump), size: dump.rawSize, object: dump.key.rawValue,
      layout.appendOnly == .off
        ? nil : Increment(content: ByteStream(bytes), commands: commands, bytes: Int64(bytes.readableBytes)),
      nodes: nodes, logger: logger)
    report.position = manifest.recoveryPoint.position.split(separator: ",").map(String.init)[shard]
    note(report, manifest, logger)
    return report
  }

  private func note(_ report: Report, _ manifest: BackupManifest, _ logger: Logger) {
    logger.info(
      "restored",
      metadata: [
        "component": "\(manifest.component)", "redis.keys": "\(report.summary.keys)",
        "redis.aside": "\(report.movedAside)",
      ])
  }

  private func restoreFiles(
    from content: ByteStream, size: Int64?, object: String, _ after: Increment?, nodes: ByteBuffer? = nil,
    logger: Logger?
  ) async throws -> Report {
    let start = ContinuousClock.now
    let executor = BlockingExecutor(label: "redis.restore")
    let files = try await executor.run { [layout, owner] in
      try RedisDataFiles(layout, owner: owner, now: Date())
    }
    if !files.leftovers.isEmpty {
      logger?.warning(
        "restores that were killed have left files in the data folder; once no restore runs, they can be removed",
        metadata: ["restore.left": "\(files.leftovers.joined(separator: ", "))"])
    }
    do {
      let meter = progress.map { ProgressMeter("dump.rdb", total: size, handler: $0) }
      let scanner = MutableBox(RDBScanner(object: object, options: RDBScanner.Options(checksValues: true)))
      for try await frame in content {
        try await executor.run {
          try scanner.withLock { try $0.scan(frame) }
          try files.write(frame)
        }
        meter?.add(frame.readableBytes)
      }
      let summary = try scanner.withLock { try $0.finish() }
      guard summary.checksum == .verified || acceptsMissingChecksum else {
        throw DRError(
          .corruptData, "the RDB file has no checksum: nothing vouches for its bytes",
          advice: "choose a backup with one, or accept a missing checksum", object: object)
      }
      if let after {
        try await executor.run { try files.beginChanges() }
        // The database that the stream is in, if the snapshot was not taken at its start.
        if let database = summary.aux["repl-stream-db"].flatMap({ Int($0) }), database > 0 {
          var select = ByteBuffer()
          select.writeRESPCommand(["SELECT", "\(database)"])
          try await executor.run { [select] in try files.write(select) }
        }
        for try await bytes in after.content { try await executor.run { try files.write(bytes) } }
      }
      let aside = try await executor.run { try files.commit(nodes: nodes) }
      meter?.finish()
      return Report(
        outcome: RestoreOutcome(
          bytes: summary.bytes + (after?.bytes ?? 0), items: files.count, duration: start.duration(to: .now)),
        summary: summary, commands: after?.commands ?? 0, position: nil, movedAside: aside)
    } catch {
      // Not cancelled with the restore: what it made has to go.
      await Task.detached { try? await executor.run { files.discard() } }.value
      throw error
    }
  }
}

extension RedisReplay {
  /// The commands, without times: servers before Redis 7 do not know the lines that hold those.
  fileprivate var commandsAlone: ByteStream {
    let source = appendOnlyFile
    return ByteStream {
      var iterator = source.makeAsyncIterator()
      guard var bytes = try await iterator.next() else { return nil }
      // One line at most, before the commands.
      if bytes.readableBytesView.first == UInt8(ascii: "#"), let end = bytes.readableBytesView.firstIndex(of: 10) {
        bytes.moveReaderIndex(to: end + 1)
      }
      return bytes
    }
  }
}
