import DRCore

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// A folder of a tier, reached from its root one component at a time.
///
/// Each step is opened relative to the step before and refuses a symbolic link, so no path can lead outside, not even
/// one that is changed while it is walked.
struct OpenFolder {
  /// To whom new files and folders are given; nil when the process is not root.
  struct Owner {
    var user: uid_t
    var group: gid_t
  }

  /// From the root to this folder.
  let chain: [Descriptor]
  /// The names of the folders below the root.
  let names: [String]
  let owner: Owner?

  /// Below the root, with a slash at its end; empty for the root.
  var path: String { names.map { "\($0)/" }.joined() }

  var descriptor: Descriptor { chain[chain.count - 1] }

  /// A folder of this one, or nil if there is none of that name.
  func folder(_ name: String) throws -> OpenFolder? {
    let next = try allowing(ENOENT, ENOTDIR, ELOOP) { () throws(SystemError) in try descriptor.openFolder(name) }
    guard let next else {
      // A symbolic link is reported as no folder.
      _ = try file(name)
      return nil
    }
    return OpenFolder(chain: chain + [next], names: names + [name], owner: owner)
  }

  /// A folder below this one, or nil if there is none.
  func folder(_ names: some Collection<String>) throws -> OpenFolder? {
    var folder = self
    for name in names {
      guard let next = try folder.folder(name) else { return nil }
      folder = next
    }
    return folder
  }

  /// A folder below this one, created where it is missing.
  ///
  /// - Throws: ``SystemError`` with ENOENT if another process removed a folder meanwhile: worth another try.
  func creatingFolder(_ names: some Collection<String>) throws -> OpenFolder {
    var folder = self
    for name in names {
      if let next = try folder.folder(name) {
        folder = next
        continue
      }
      let created = try folder.descriptor.createFolder(name)
      guard let next = try folder.folder(name) else {
        let found = try allowing(ENOENT) { () throws(SystemError) in try folder.descriptor.status(name) }
        guard let found, found.kind != .folder else { throw SystemError("openat", ENOENT) }
        throw DRError(
          .invalidKey, "no key can lie below '\(folder.path)\(name)': it is no folder",
          advice: "a local tier cannot hold both an object and a key below it")
      }
      if created, let owner { try next.descriptor.give(to: owner.user, owner.group) }
      folder = next
    }
    return folder
  }

  /// The status of a file in this folder, or nil if there is none of that name.
  func file(_ name: String) throws -> Descriptor.Status? {
    guard let status = try allowing(ENOENT, call: { () throws(SystemError) in try descriptor.status(name) }) else {
      return nil
    }
    if status.kind == .symbolicLink { throw symbolicLink(name) }
    return status.kind == .file ? status : nil
  }

  /// Makes this folder's entries durable, and those of every folder above it: another process may have created one of
  /// those and not have synced it yet. Where nothing changed this costs next to nothing.
  func sync() throws {
    for folder in chain.reversed() { try folder.syncFolder() }
  }

  func symbolicLink(_ name: String) -> DRError {
    DRError(
      .invalidKey, "'\(path)\(name)' is a symbolic link, and a tier follows none below its root",
      advice: "put the real folder there, or mount it there")
  }
}
