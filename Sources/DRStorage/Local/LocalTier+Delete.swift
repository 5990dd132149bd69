public import DRCore

public import struct Foundation.Date

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

extension LocalTier {
  public func delete(_ key: ObjectKey) async throws {
    let root = root
    try await LocalTier.blocking(name, .writing, object: key.rawValue) {
      let (folders, name) = try LocalTier.split(key)
      guard let folder = try root.open().folder(folders), try folder.file(name) != nil else { return }
      try allowing(ENOENT) { () throws(SystemError) in try folder.descriptor.unlink(name) }
      try folder.descriptor.syncFolder()
      folder.removeIfEmpty()
    }
  }

  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    let root = root
    return try await LocalTier.blocking(name, .writing) {
      try LocalTier.removeTemporaries(in: root.open(), olderThan: date)
    }
  }

  /// A put that still runs writes to its file, which keeps it young.
  private static func removeTemporaries(in folder: OpenFolder, olderThan date: Date) throws -> Int {
    var removed = 0
    for entry in try folder.descriptor.entries() {
      switch entry.kind {
      case .folder where !(folder.path.isEmpty && entry.name == lostAndFound):
        if let next = try folder.folder(entry.name) { removed += try removeTemporaries(in: next, olderThan: date) }
      case .file where ObjectKey.isTemporary(entry.name):
        guard let status = try folder.file(entry.name), status.modified < date else { continue }
        // Another cleaner may have been faster.
        if try allowing(ENOENT, call: { () throws(SystemError) in try folder.descriptor.unlink(entry.name) }) != nil {
          removed += 1
        }
      default:
        continue
      }
    }
    return removed
  }
}

extension OpenFolder {
  /// Removes this folder if it is empty, and then each one above it that became so, but never the root. Best effort: a
  /// folder that gets a file at the same moment is not empty and stays, and a put that finds its folder gone makes it
  /// again.
  func removeIfEmpty() {
    for (parent, name) in zip(chain.dropLast(), names).reversed() {
      do {
        try parent.removeFolder(name)
      } catch {
        return
      }
    }
  }
}
