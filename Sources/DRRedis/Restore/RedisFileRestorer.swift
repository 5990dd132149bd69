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
      let replay = try await RedisReplay.find(manifest, to: target, in: archive)
      if let replay, replay.commands > 0, layout.appendOnly == .off {
        throw DRError(
          .targetUnreachable, "\(replay.commands) changes after the snapshot cannot be put into an RDB file",
          advice: "restore online, or for a server with appendonly yes, or ask for the snapshot alone")
      }
      let artifact = try manifest.artifact("dump.rdb")
      var report = try await restoreFiles(
        from: try await reader.read(artifact), size: artifact.rawSize, object: artifact.key.rawValue, replay: replay)
      report.position = replay.map { "\($0.end.offset)" } ?? manifest.recoveryPoint.position
      logger.info(
        "restored",
        metadata: [
          "component": "\(manifest.component)", "redis.keys": "\(report.summary.keys)",
          "redis.aside": "\(report.movedAside)",
        ])
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
    try await restoreFiles(from: content, size: size, object: object, replay: nil)
  }

  private func restoreFiles(
    from content: ByteStream, size: Int64?, object: String, replay: RedisReplay?
  ) async throws -> Report {
    let start = ContinuousClock.now
    let executor = BlockingExecutor(label: "redis.restore")
    let files = try await executor.run { [layout, owner] in
      try RedisDataFiles(layout, owner: owner, now: Date())
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
      if let replay {
        try await executor.run { try files.beginChanges() }
        // The database that the stream is in, if the snapshot was not taken at its start.
        if let database = summary.aux["repl-stream-db"].flatMap({ Int($0) }), database > 0 {
          var select = ByteBuffer()
          select.writeRESPCommand(["SELECT", "\(database)"])
          try await executor.run { [select] in try files.write(select) }
        }
        let changes = layout.appendOnly == .singleFile ? replay.commandsAlone : replay.appendOnlyFile
        for try await bytes in changes { try await executor.run { try files.write(bytes) } }
      }
      let aside = try await executor.run { try files.commit() }
      meter?.finish()
      return Report(
        outcome: RestoreOutcome(
          bytes: summary.bytes + (replay?.bytes ?? 0), items: files.count, duration: start.duration(to: .now)),
        summary: summary, commands: replay?.commands ?? 0, position: nil, movedAside: aside)
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
