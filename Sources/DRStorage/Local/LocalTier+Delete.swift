public import DRCore

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
