public import DRCore
public import Logging
import NIOCore

import struct Foundation.Data
import struct Foundation.Date

extension Repository {
  /// Takes a backup and commits it.
  ///
  /// When it returns, the backup is durable and in the catalog, its manifest was read back, and every artifact was seen
  /// in the tier with its size. When it throws, no backup was added, and what was written has been removed as far as the
  /// tier allowed it.
  ///
  /// - Parameters:
  ///   - cadence: The folder of the plan's tree in which the backup lies, by which it is retained.
  ///   - progress: Of all artifacts together; the subject is the backup's identity.
  /// - Throws: ``DRCore/DRError``: `invalidConfiguration` if the folder is another component's (``RepositoryLayout``);
  ///   what the source or the tier threw; `CancellationError`.
  public func backUp(
    _ source: any BackupSource, cadence: Cadence, encoding: Encoding = Encoding(), logger: Logger,
    progress: ProgressHandler? = nil
  ) async throws -> BackupManifest {
    let attempt = try await begin(source.component, cadence)
    var logger = logger
    logger[metadataKey: "backup.id"] = "\(attempt.id)"
    logger[metadataKey: "backup.component"] = "\(attempt.component)"
    logger.info("backup started")
    let writer = ArtifactWriter(
      attempt.id, of: attempt.component, tier: tier, prefix: attempt.folder.artifacts(attempt.id, cadence),
      encoding: encoding, progress: progress)
    var commit = Commit.notTried
    do {
      let capture = try await showingLife(of: attempt, logger) { [logger] in
        try await source.capture(into: writer, logger: logger)
      }
      let artifacts = try writer.close()
      try Task.checkCancellation()
      try await checkPresence(of: artifacts)
      let wanted = BackupManifest(
        id: attempt.id, component: attempt.component, cadence: cadence, started: attempt.started, ended: now(),
        capture: capture, artifacts: artifacts)
      try await checkAncestors(of: wanted)
      let manifest = try await put(wanted, in: attempt.folder, &commit)
      // A process that was suspended for longer than the grace may have been taken for dead and its artifacts removed.
      // From the manifest on nobody removes them.
      try await checkPresence(of: artifacts)
      // Nor did a pruning take what it goes on from, which it did not know to be needed.
      try await checkAncestors(of: manifest)
      do {
        try await tier.delete(attempt.folder.marker(attempt.id))
      } catch {
        logger.warning(
          "the marker of a committed backup stays until the next cleaning", metadata: ["error": "\(error)"])
      }
      logger.info(
        "backup committed",
        metadata: ["backup.raw_bytes": "\(manifest.rawSize)", "backup.stored_bytes": "\(manifest.storedSize)"])
      return manifest
    } catch {
      if Task.isCancelled {
        logger.info("backup cancelled")
      } else {
        // It is thrown: whoever called says it to people, once.
        logger.notice("backup failed", metadata: ["error": "\(error)"])
      }
      let keys = writer.abandon()
      let reached = commit
      await Task { [logger] in await remove(keys, of: attempt, after: reached, logger) }.value
      throw error
    }
  }

  /// How far the only commit point was reached.
  private enum Commit {
    case notTried
    /// The manifest may be there, whatever the put said.
    case tried
    /// The manifest of this name is not ours.
    case taken
  }

  /// A backup that has its identity.
  private struct Attempt {
    var id: String
    var component: Component
    var folder: BackupFolder
    var started: Date
  }

  /// Reserves an identity by putting its marker: the clock's second, or the next free one.
  private func begin(_ component: Component, _ cadence: Cadence) async throws -> Attempt {
    let folder = folder(of: component)
    let started = now()
    for offset in 0..<3600 {
      let id = BackupID.make(at: started.addingTimeInterval(Double(offset)))
      let marker = try folder.marker(id)
      let content = try BackupMarker(id: id, component: component, started: started, alive: started).encoded()
      do {
        _ = try await tier.put(marker, ByteStream(content), PutOptions(onlyIfAbsent: true))
      } catch let error as DRError where error.code == .objectExists {
        continue
      }
      do {
        if try await isFree(id, in: folder) {
          try await refuseForeign(folder, for: component)
          return Attempt(id: id, component: component, folder: folder, started: started)
        }
      } catch {
        await Task { try? await tier.delete(marker) }.value
        throw error
      }
      try await tier.delete(marker)
    }
    throw DRError(
      .invalidConfiguration, "every second of the next hour is taken by a backup",
      advice: "look at the clock of this host", component: component)
  }

  /// A marker goes before its backup's manifest comes into sight of others only if this is looked at after the marker
  /// was put.
  private func isFree(_ id: String, in folder: BackupFolder) async throws -> Bool {
    guard try await tier.head(folder.manifest(id)) == nil else { return false }
    for cadence in Cadence.all {
      let remains = try await tier.list(prefix: folder.artifacts(id, cadence), after: nil, limit: 1)
      guard remains.objects.isEmpty else { return false }
    }
    return true
  }

  /// With ``RepositoryLayout/byKind`` a folder belongs to one component: backups of two would take each other's place in
  /// retention and in the catalog.
  private func refuseForeign(_ folder: BackupFolder, for component: Component) async throws {
    guard layout == .byKind else { return }
    let owner = try await owner(of: folder, besides: component)
    guard let owner, owner != component else { return }
    throw DRError(
      .invalidConfiguration, "the folder '\(folder.path)' holds backups of \(owner)",
      advice: "use a tier for each, or the layout byKindAndName, which gives each component a folder of its own",
      component: component)
  }

  /// The component of the newest manifest that can be read, or another one that is being backed up.
  private func owner(of folder: BackupFolder, besides component: Component) async throws -> Component? {
    let objects = try await tier.listAll(prefix: folder.metadataPrefix)
    for object in objects {
      guard case .marker = folder.metadata(object.key) else { continue }
      if let marker = try await readMarker(object.key), marker.component != component { return marker.component }
    }
    for object in objects.reversed() {
      guard case .manifest = folder.metadata(object.key) else { continue }
      if case .success(let manifest) = await readManifest(object.key, in: folder) { return manifest.component }
    }
    return nil
  }

  private func readMarker(_ key: ObjectKey) async throws -> BackupMarker? {
    do {
      return BackupMarker.decoded(try await tier.read(key, limit: 1 << 20))
    } catch let error as DRError where error.code == .objectNotFound || error.code == .malformedData {
      return nil
    }
  }

  /// Refreshes the marker for as long as the body runs.
  private func showingLife<Result: Sendable>(
    of attempt: Attempt, _ logger: Logger, _ body: () async throws -> Result
  ) async throws -> Result {
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        while !Task.isCancelled {
          try await Task.sleep(for: heartbeat)
          do {
            let marker = BackupMarker(
              id: attempt.id, component: attempt.component, started: attempt.started, alive: now())
            _ = try await tier.put(attempt.folder.marker(attempt.id), ByteStream(marker.encoded()), PutOptions())
          } catch {
            logger.warning("the marker of a running backup was not refreshed", metadata: ["error": "\(error)"])
          }
        }
      }
      defer { group.cancelAll() }
      return try await body()
    }
  }

  /// A backup that goes on from others cannot be restored without any of them.
  private func checkAncestors(of manifest: BackupManifest) async throws {
    do {
      for ancestor in try await reader(for: manifest).chain().dropLast() {
        try await checkPresence(of: ancestor.manifest.artifacts)
      }
    } catch var error as DRError {
      if error.code == .objectNotFound || error.code == .corruptData {
        error.advice = "bring it back from another tier, or take a whole backup, which goes on from none"
      }
      throw error
    }
  }

  private func checkPresence(of artifacts: [BackupManifest.Artifact]) async throws {
    for artifact in artifacts { try await tier.checkPresence(of: artifact) }
  }

  /// Puts the manifest, compares what is stored then, and gives it as every reader will see it.
  private func put(
    _ manifest: BackupManifest, in folder: BackupFolder, _ commit: inout Commit
  ) async throws -> BackupManifest {
    let key = try folder.manifest(manifest.id)
    let json = ByteBuffer(bytes: try manifest.json())
    commit = .tried
    do {
      let options = PutOptions(onlyIfAbsent: true, expectedLength: Int64(json.readableBytes))
      _ = try await tier.put(key, ByteStream(json), options)
    } catch let error as DRError where error.code == .objectExists {
      // A put that was repeated because its answer was lost finds its own manifest.
      commit = .taken
      guard try await tier.read(key) == json else { throw error }
      commit = .tried
    }
    guard try await tier.read(key) == json else {
      throw DRError(
        .corruptData, "the manifest reads back otherwise than it was written", advice: "look at the disk",
        component: manifest.component, object: key.rawValue)
    }
    return try BackupManifest(json: Data(json.readableBytesView), object: key.rawValue)
  }

  /// Removes what a failed backup wrote. The manifest goes first; as long as it may be there, nothing else goes.
  private func remove(_ keys: [ObjectKey], of attempt: Attempt, after commit: Commit, _ logger: Logger) async {
    do {
      switch commit {
      case .taken: return
      case .tried: try await tier.delete(attempt.folder.manifest(attempt.id))
      case .notTried: break
      }
      for key in keys { try await tier.delete(key) }
      try await tier.delete(attempt.folder.marker(attempt.id))
    } catch {
      logger.warning("a failed backup left objects for the next cleaning", metadata: ["error": "\(error)"])
    }
  }
}
