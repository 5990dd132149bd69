public import DRCore

public import struct Foundation.Date

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// The temporary files of puts that run, or were killed.
extension LocalTier {
  /// A put that still runs writes to its file, which keeps it young.
  public func removeAbandonedUploads(olderThan date: Date) async throws -> Int {
    let root = root
    return try await LocalTier.blocking(name, .writing) {
      var removed = 0
      try LocalTier.visitTemporaries(in: root.open()) { folder, name, status in
        guard status.modified < date else { return }
        // Another cleaner may have been faster.
        if try allowing(ENOENT, call: { () throws(SystemError) in try folder.descriptor.unlink(name) }) != nil {
          removed += 1
        }
      }
      return removed
    }
  }

  public func unfinishedUploads() async throws -> [UnfinishedUpload] {
    let root = root
    return try await LocalTier.blocking(name, .reading) {
      var found: [UnfinishedUpload] = []
      try LocalTier.visitTemporaries(in: root.open()) { folder, name, status in
        found.append(
          UnfinishedUpload(
            kind: .temporaryFile, name: folder.path + name, size: status.size, alive: status.modified))
      }
      return found.sorted { $0.name < $1.name }
    }
  }

  private static func visitTemporaries(
    in folder: OpenFolder, _ body: (_ folder: OpenFolder, _ name: String, Descriptor.Status) throws -> Void
  ) throws {
    for entry in try folder.descriptor.entries() {
      switch entry.kind {
      case .folder where !(folder.path.isEmpty && entry.name == lostAndFound):
        if let next = try folder.folder(entry.name) { try visitTemporaries(in: next, body) }
      case .file where ObjectKey.isTemporary(entry.name):
        if let status = try folder.file(entry.name) { try body(folder, entry.name, status) }
      default: continue
      }
    }
  }
}
