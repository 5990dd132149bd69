public import DRCore
public import Logging

public import struct Foundation.Date

/// What a cleaning removed.
public struct CleaningOutcome: Hashable, Sendable {
  /// The identities of interrupted backups of which something was removed.
  public var backups: [String] = []
  /// The objects removed: artifacts and markers.
  public var objects: [ObjectKey] = []
  /// Unfinished uploads removed.
  public var uploads = 0
  /// Those that were removed, as they were listed before.
  public var removedUploads: [UnfinishedUpload] = []
  /// Those that were left because they are too young: they may be at work.
  public var youngUploads: [UnfinishedUpload] = []
  /// What has no manifest and was left because it is too young: it may be at work.
  public var young: [Young] = []

  /// A backup without a manifest that has shown life within the grace.
  public struct Young: Hashable, Sendable {
    /// The backup's identity.
    public var id: String
    /// Artifacts and markers that are stored. An upload that goes on, or was broken off, is none yet.
    public var objects: Int
    /// The last sign of life, on the tier's clock.
    public var alive: Date
    /// From when on a cleaning with the same grace removes it, unless it shows life again.
    public var removable: Date
  }
}

extension Repository {
  /// Removes what interrupted backups left: artifacts and markers without a manifest, stray markers, unfinished uploads.
  ///
  /// Only remains whose last sign of life (the marker, or any artifact) is older than the grace, by the tier's clock. A
  /// backup whose manifest is there keeps everything, whether the manifest can be read or not; so does every object that
  /// any manifest names, wherever it lies. Objects that are not of the repository's form are not touched.
  ///
  /// - Parameter grace: Longer than any pause of a running backup: it shows life every ten minutes, but a suspended host
  ///   does not.
  /// - Throws: ``DRCore/DRError``: `tierUnavailable`, `notWritable`. What was removed before stays removed.
  @discardableResult
  public func cleanInterrupted(olderThan grace: Duration = .seconds(86_400), logger: Logger) async throws
    -> CleaningOutcome
  {
    let limit = now().addingTimeInterval(-(grace / .seconds(1)))
    var outcome = CleaningOutcome()
    let referenced = Set(try await catalog().backups.flatMap { $0.artifacts.map(\.key) })
    for folder in try await folders() {
      for (id, remains) in try await remains(in: folder).sorted(by: { $0.key < $1.key }) {
        let committed = try await tier.head(folder.manifest(id)) != nil
        guard remains.newest < limit else {
          let count = remains.artifacts.count + remains.markers.count
          if !committed { outcome.young.append(young(id, remains.newest, count, grace)) }
          continue
        }
        // Artifacts first: as long as one is left, its marker tells whose it was.
        let removable = (committed ? [] : remains.artifacts.filter { !referenced.contains($0) }) + remains.markers
        for key in removable { try await tier.delete(key) }
        guard !removable.isEmpty else { continue }
        outcome.objects += removable
        if !committed {
          outcome.backups.append(id)
          logger.notice(
            "removed what an interrupted backup left",
            metadata: ["backup.id": "\(id)", "repository.folder": "\(folder.path)", "objects": "\(removable.count)"])
        }
      }
    }
    let unfinished = try await tier.unfinishedUploads()
    outcome.removedUploads = unfinished.filter { $0.alive < limit }
    outcome.youngUploads = unfinished.filter { $0.alive >= limit }
    outcome.uploads = try await tier.removeAbandonedUploads(olderThan: limit)
    return outcome
  }

  private func young(_ id: String, _ alive: Date, _ objects: Int, _ grace: Duration) -> CleaningOutcome.Young {
    CleaningOutcome.Young(
      id: id, objects: objects, alive: alive, removable: alive.addingTimeInterval(grace / .seconds(1)))
  }

  /// Deletes a backup: its manifest, then its artifacts.
  ///
  /// When it returns, both are gone, durably. Killed in between, the backup is gone and the rest is removed by
  /// ``cleanInterrupted(olderThan:logger:)``. Only objects in the backup's own folder are removed.
  ///
  /// - Throws: ``DRCore/DRError``: `tierUnavailable`, `notWritable`.
  public func delete(_ backup: BackupManifest, logger: Logger) async throws {
    guard BackupID.isValid(backup.id) else {
      throw DRError(.invalidKey, "this is no identity of a backup", component: backup.component, object: backup.id)
    }
    let folder = folder(of: backup.component)
    try await tier.delete(folder.manifest(backup.id))
    for object in try await tier.listAll(prefix: folder.artifacts(backup.id, backup.cadence)) {
      try await tier.delete(object.key)
    }
    try await tier.delete(folder.marker(backup.id))
    logger.info(
      "backup deleted", metadata: ["backup.id": "\(backup.id)", "backup.component": "\(backup.component)"])
  }

  /// What lies under the identity of one backup, besides its manifest.
  private struct Remains {
    var artifacts: [ObjectKey] = []
    var markers: [ObjectKey] = []
    var newest = Date.distantPast
  }

  /// By identity: every marker, and all artifacts of backups whose manifest was absent when this looked.
  private func remains(in folder: BackupFolder) async throws -> [String: Remains] {
    var remains: [String: Remains] = [:]
    var committed: Set<String> = []
    for object in try await tier.listAll(prefix: folder.metadataPrefix) {
      switch folder.metadata(object.key) {
      case .manifest(let id): committed.insert(id)
      case .marker(let id):
        remains[id, default: Remains()].markers.append(object.key)
        remains[id]?.newest = object.modified
      case nil: continue
      }
    }
    for cadence in Cadence.all {
      for object in try await tier.listAll(prefix: "\(folder.path)/\(cadence)/") {
        guard let id = folder.backupID(ofArtifact: object.key, cadence), !committed.contains(id) else { continue }
        var found = remains[id] ?? Remains()
        found.artifacts.append(object.key)
        found.newest = max(found.newest, object.modified)
        remains[id] = found
      }
    }
    return remains
  }
}
