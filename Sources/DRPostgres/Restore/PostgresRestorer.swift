public import DRCore
import Foundation
public import Logging
import NIOCore

/// Writes a base backup into a data folder and its tablespaces, and tells the server how far to recover.
///
/// When it returns, every file is durable, every digest of the backup was checked, and starting a server on the folder
/// recovers to the target by itself: PostgreSQL's own recovery does the rest. `global/pg_control` is written last, so
/// that no server starts on a half-done restore. `pg_verifybackup` accepts the result as it is before the first start.
///
/// What a crash leaves: a folder without `global/pg_control` (or one beside the destination, `….restoring-…`), which no
/// server takes and which can be removed, or replaced by the next restore: it holds a file `.dr-restoring`. The folders of its
/// tablespaces hold a folder of that name, which the next restore removes if it ``replacesExisting``. What was at the destination before
/// is never removed.
public struct PostgresRestorer: Restorer {
  /// The data folder to write; absolute.
  public var dataFolder: String
  public var recovery: RecoverySettings
  /// Where the restore command gets its WAL from. If it is given, nothing is written before ``RecoveryCheck`` has seen that
  /// the target is reached. Without it only the server finds out, at the end of its recovery.
  public var archive: WALArchive?
  /// With ``archive``: also read and digest every segment that the recovery needs, before anything is written.
  public var readsWAL = false
  /// Where to put each tablespace, by its folder on the server that was backed up; absolute. One that is not named here
  /// goes to where it was, if that is absent or empty.
  public var tablespaces: [String: String]
  /// Replace a data folder that holds something: it is kept beside, as `….before-<time>`. A tablespace's folder that holds
  /// something is refused nevertheless, unless a restore has left it that was killed.
  public var replacesExisting: Bool
  /// Who owns the files when root restores: a user's name. Nil: the owner of the folder above the data folder.
  public var owner: String?
  /// Told, with ``archive``, how far the recovery goes and on which timelines, before anything is written.
  public var onReach: (@Sendable (RecoveryReach) -> Void)?
  public var progress: ProgressHandler?

  public init(
    dataFolder: String, recovery: RecoverySettings, archive: WALArchive? = nil, tablespaces: [String: String] = [:],
    replacesExisting: Bool = false, owner: String? = nil, progress: ProgressHandler? = nil
  ) {
    self.dataFolder = dataFolder
    self.recovery = recovery
    self.archive = archive
    self.tablespaces = tablespaces
    self.replacesExisting = replacesExisting
    self.owner = owner
    self.progress = progress
  }

  public func restore(
    from reader: any BackupReader, to target: RecoveryTarget, logger: Logger
  ) async throws -> RestoreOutcome {
    let start = ContinuousClock.now
    let manifest = reader.manifest
    do {
      try check(manifest, target)
      let lines = try recovery.lines(for: target)
      let executor = BlockingExecutor(label: "postgres.restore")
      let plan = try await executor.run { [tablespaces, dataFolder] in
        try TablespacePlan(manifest, mapping: tablespaces, dataFolder: dataFolder)
      }
      if let archive {
        let check = RecoveryCheck(
          archive: archive, timeline: recovery.timeline, inclusive: recovery.inclusive, readsAll: readsWAL)
        let reach = try await check.check(manifest, reaches: target, logger: logger)
        onReach?(reach)
      }
      let owner = try fileOwner()
      let (destination, leftovers) = try await executor.run { [dataFolder, replacesExisting] in
        let destination = try RestoreDestination(
          path: dataFolder, backup: manifest.id, replacing: replacesExisting, owner: owner, now: Date())
        do {
          try plan.prepare(for: manifest.id, owner: owner)
        } catch {
          plan.discard()
          destination.discard()
          throw error
        }
        return (
          destination, RestoreDestination.leftovers(beside: destination.path, except: destination.workPath)
        )
      }
      if !leftovers.isEmpty {
        logger.warning(
          "restores that were killed have left folders beside the destination; they can be removed",
          metadata: ["restore.left": "\(leftovers.joined(separator: ", "))"])
      }
      do {
        let outcome = try await write(reader, into: destination, plan, lines, owner, executor, logger)
        return RestoreOutcome(
          bytes: outcome.bytes, items: outcome.files, duration: start.duration(to: .now),
          movedAside: outcome.aside.map { [$0] } ?? [])
      } catch {
        // Not cancelled with the restore: what it made has to go.
        await Task.detached {
          try? await executor.run {
            plan.discard()
            destination.discard()
          }
        }.value
        throw error
      }
    } catch var error as DRError {
      error.component = error.component ?? manifest.component
      throw error
    }
  }

  private func write(
    _ reader: any BackupReader, into destination: RestoreDestination, _ plan: TablespacePlan, _ lines: [String],
    _ owner: FileOwner?, _ executor: BlockingExecutor, _ logger: Logger
  ) async throws -> (files: Int, bytes: Int64, aside: String?) {
    let manifest = reader.manifest
    let meter = progress.map { ProgressMeter("base.tar", total: manifest.rawSize, handler: $0) }
    var total: (files: Int, bytes: Int64) = (0, 0)
    for (oid, folder) in plan.folders.sorted(by: { $0.key < $1.key }) {
      let artifact = try manifest.artifact("\(oid).tar")
      let writer = try await extract(artifact, reader, executor, meter) {
        try FolderWriter(
          root: TablespacePlan.staging(folder), owner: owner, object: artifact.key.rawValue, link: { _ in nil })
      }
      try await executor.run { try writer.sync() }
      total.files += writer.files
      total.bytes += writer.bytes
    }

    let base = try manifest.artifact("base.tar")
    let writer = try await extract(base, reader, executor, meter) {
      try FolderWriter(
        root: destination.workPath, owner: owner,
        holding: [PostgresRestorer.control, "postgresql.auto.conf", "standby.signal", "recovery.signal"],
        object: base.key.rawValue, link: { try plan.target(of: $0) })
    }
    let verification = try await reader.read(manifest.artifact("backup_manifest")).collect(limit: 1 << 30)
    let withWAL = manifest.properties["walIncluded"] == .bool(true)
    let aside = try await executor.run { () -> String? in
      try writer.put("backup_manifest", verification, mode: 0o600)
      guard let control = writer.held[PostgresRestorer.control] else {
        throw DRError(.corruptData, "the backup has no \(PostgresRestorer.control)", advice: "choose another backup")
      }
      let settings = writer.held["postgresql.auto.conf"]
      let text = RecoverySettings.rewrite(
        settings.map { String(buffer: $0.bytes) } ?? "", adding: lines)
      try writer.put("postgresql.auto.conf", ByteBuffer(string: text), mode: 0o600)
      // A standby's own standby.signal, which would beat recovery.signal, was held back and is not written.
      // A backup that holds its own WAL and has no archive recovers as after a crash.
      if !withWAL || lines.contains(where: { $0.hasPrefix("restore_command") }) {
        try writer.put("recovery.signal", ByteBuffer(), mode: 0o600)
      }
      try writer.sync()
      try destination.marker.remove()
      try plan.publish()
      try writer.put(PostgresRestorer.control, control.bytes, mode: control.member.mode)
      return try destination.commit(now: Date())
    }
    if let aside {
      logger.notice("the former data folder was kept", metadata: ["restore.former": "\(aside)"])
    }
    meter?.finish()
    return (total.files + writer.files, total.bytes + writer.bytes, aside)
  }

  /// Written last: no server starts without it.
  private static let control = "global/pg_control"

  private func extract(
    _ artifact: BackupManifest.Artifact, _ reader: any BackupReader, _ executor: BlockingExecutor,
    _ meter: ProgressMeter?, _ make: @escaping @Sendable () throws -> FolderWriter
  ) async throws -> FolderWriter {
    let writer = try await executor.run(make)
    meter?.begin(artifact.name)
    var frames = try await reader.read(artifact).makeAsyncIterator()
    var next = try await frames.next()
    while let frame = next {
      // The next one is digested meanwhile.
      async let written: Void = executor.run { try writer.write(frame) }
      next = try await frames.next()
      try await written
      meter?.add(frame.readableBytes)
    }
    try await executor.run { try writer.finish() }
    return writer
  }

  private func check(_ manifest: BackupManifest, _ target: RecoveryTarget) throws {
    guard manifest.component.kind == .postgres, manifest.method == .basebackup else {
      throw DRError(.invalidConfiguration, "backup \(manifest.id) is no PostgreSQL base backup")
    }
    func unreachable(_ what: String) -> DRError {
      DRError(
        .targetUnreachable, "backup \(manifest.id) becomes consistent only after the target: \(what)",
        advice: "choose an earlier backup", object: manifest.id)
    }
    switch target {
    case .time(let date) where date < manifest.recoveryPoint.time:
      throw unreachable("it ends at \(Timestamp.postgres(manifest.recoveryPoint.time))")
    case .position(let text):
      if let wanted = LSN(text), let end = LSN(manifest.recoveryPoint.position), wanted < end {
        throw unreachable("it ends at \(end)")
      }
    default: break
    }
    guard recovery.restoreCommand != nil || manifest.properties["walIncluded"] == .bool(true) else {
      throw DRError(
        .invalidConfiguration, "backup \(manifest.id) needs WAL from the archive, and there is no restore command",
        advice: "give a restore_command such as 'dr-wal fetch %f %p'")
    }
  }

  private func fileOwner() throws -> FileOwner? {
    guard geteuid() == 0 else { return nil }
    if let owner {
      guard let user = FileOwner(named: owner) else {
        throw DRError(.invalidConfiguration, "there is no user '\(owner.prefix(64))'")
      }
      return user
    }
    var folder = dataFolder
    repeat {
      if let owner = FileOwner(of: folder) { return owner }
      folder = (folder as NSString).deletingLastPathComponent
    } while folder.count > 1
    return nil
  }
}
