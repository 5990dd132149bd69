public import DRCore

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

extension LocalTier {
  public func list(prefix: String, after: ObjectKey?, limit: Int) async throws -> ObjectPage {
    let root = root
    return try await LocalTier.blocking(name, .reading, object: prefix.isEmpty ? nil : prefix) {
      // Opened first: an unreachable tier must not look like an empty one.
      let start = try root.open()
      // All but the last component of the prefix name folders whole. A prefix that no key can start with finds nothing.
      var folder = start
      if let slash = prefix.utf8.lastIndex(of: UInt8(ascii: "/")) {
        guard let key = try? ObjectKey(String(prefix[..<slash])), let found = try start.folder(key.components) else {
          return ObjectPage(objects: [], next: nil)
        }
        folder = found
      }
      // One more than was asked for tells whether there is another page.
      var listing = Listing(prefix: prefix, after: after?.rawValue, limit: max(1, min(limit, 1_000_000)))
      try listing.visit(folder)
      guard listing.objects.count > listing.limit else { return ObjectPage(objects: listing.objects, next: nil) }
      listing.objects.removeLast()
      return ObjectPage(objects: listing.objects, next: listing.objects.last?.key)
    }
  }

  /// A walk in the byte order of the keys. It holds the names of one folder for each level, and descends only where a
  /// key that is asked for can be.
  private struct Listing {
    let prefix: String
    let after: String?
    let limit: Int
    var objects: [ObjectInfo] = []

    mutating func visit(_ folder: OpenFolder) throws {
      let path = folder.path
      // A folder sorts as if its slash were a part of its name: so `a.b` comes before `a/b`.
      let names = try folder.descriptor.entries().compactMap { entry -> (sortName: String, entry: Descriptor.Entry)? in
        guard wanted(entry, in: path) else { return nil }
        return (entry.kind == .folder ? "\(entry.name)/" : entry.name, entry)
      }.sorted { $0.sortName.utf8.lexicographicallyPrecedes($1.sortName.utf8) }
      for (_, entry) in names {
        if objects.count > limit { return }
        switch entry.kind {
        case .folder:
          if let next = try folder.folder(entry.name) { try visit(next) }
        case .file:
          // Gone since, or no name that a key can have: not an object.
          guard let key = try? ObjectKey(path + entry.name), let status = try folder.file(entry.name) else {
            continue
          }
          objects.append(status.info(key))
        case .symbolicLink:
          throw folder.symbolicLink(entry.name)
        case .other:
          continue
        }
      }
    }

    private func wanted(_ entry: Descriptor.Entry, in folder: String) -> Bool {
      if ObjectKey.isTemporary(entry.name) || entry.kind == .other { return false }
      if folder.isEmpty, [LocalRoot.marker, LocalTier.lostAndFound].contains(entry.name) { return false }
      let path = folder + entry.name
      if entry.kind == .file {
        guard path.utf8.starts(with: prefix.utf8) else { return false }
        return after.map { $0.utf8.lexicographicallyPrecedes(path.utf8) } ?? true
      }
      let inside = path + "/"
      guard inside.utf8.starts(with: prefix.utf8) || prefix.utf8.starts(with: inside.utf8) else { return false }
      // Every key inside starts with `inside`: all of them come after, or the key itself is in there.
      return after.map { $0.utf8.starts(with: inside.utf8) || $0.utf8.lexicographicallyPrecedes(inside.utf8) } ?? true
    }
  }

  /// A file system's own folder in its root, which only root may read.
  static let lostAndFound = "lost+found"
}
