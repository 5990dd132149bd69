public import DRCore
import NIOCore

import struct Foundation.Data

extension Repository {
  /// Reads every manifest.
  ///
  /// One that cannot be read hides no other: it is listed as unreadable, with its error.
  ///
  /// - Parameter component: Only this one's; nil: every component's.
  /// - Throws: ``DRCore/DRError`` with `tierUnavailable` if the tier cannot be reached.
  public func catalog(of component: Component? = nil) async throws -> Catalog {
    var backups: [BackupManifest] = []
    var unreadable: [Catalog.Unreadable] = []
    let all = if let component { [folder(of: component)] } else { try await folders() }
    for folder in all {
      let found = try await manifests(in: folder)
      backups += found.backups.filter { component == nil || $0.component == component }
      unreadable += found.unreadable
    }
    return Catalog(backups, unreadable: unreadable)
  }

  /// How many manifests are read at the same time.
  private static let readers = 8

  func manifests(
    in folder: BackupFolder
  ) async throws -> (backups: [BackupManifest], unreadable: [Catalog.Unreadable]) {
    var waiting = try await tier.listAll(prefix: folder.metadataPrefix).compactMap { object in
      if case .manifest(let id) = folder.metadata(object.key) { (id: id, key: object.key) } else { nil }
    }
    let results = await withTaskGroup(of: (String, ObjectKey, Result<BackupManifest, DRError>).self) { group in
      var results: [(id: String, key: ObjectKey, result: Result<BackupManifest, DRError>)] = []
      func start() {
        guard let next = waiting.popLast() else { return }
        group.addTask { (next.id, next.key, await readManifest(next.key, in: folder)) }
      }
      for _ in 0..<Repository.readers { start() }
      while let result = await group.next() {
        results.append(result)
        start()
      }
      return results
    }
    try Task.checkCancellation()
    var backups: [BackupManifest] = []
    var unreadable: [Catalog.Unreadable] = []
    for (id, key, result) in results {
      switch result {
      case .success(let manifest): backups.append(manifest)
      // Deleted since it was listed.
      case .failure(let error) where error.code == .objectNotFound: continue
      case .failure(let error): unreadable.append(Catalog.Unreadable(id: id, key: key, error: error))
      }
    }
    if unreadable.contains(where: { $0.error.code == .tierUnavailable }) {
      // One file on a bad sector, or a tier that went away? A tier that cannot be reached has no catalog.
      _ = try await tier.list(prefix: folder.metadataPrefix, after: nil, limit: 1)
    }
    return (backups, unreadable)
  }

  func readManifest(_ key: ObjectKey, in folder: BackupFolder) async -> Result<BackupManifest, DRError> {
    do {
      let buffer = try await tier.read(key)
      let manifest = try BackupManifest(json: Data(buffer.readableBytesView), object: key.rawValue)
      guard folder.metadata(key) == .manifest(id: manifest.id), layout.folder(of: manifest.component) == folder.path
      else {
        return .failure(
          DRError(
            .malformedData, "the manifest is of backup \(manifest.id) of \(manifest.component), which lies elsewhere",
            advice: "it was copied or renamed: put it back", object: key.rawValue))
      }
      return .success(manifest)
    } catch let error as DRError {
      return .failure(error)
    } catch {
      return .failure(
        DRError(.tierUnavailable, "the manifest could not be read", object: key.rawValue, cause: error))
    }
  }
}
