import DRCore

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// What can be done in an open folder. Names are single components: no call here follows a symbolic link.
extension Descriptor {
  static let folderMode: mode_t = 0o700
  static let fileMode: mode_t = 0o600

  /// Opens a folder by its path. This one follows symbolic links: it is for the root alone.
  static func folder(path: String) throws(SystemError) -> Descriptor {
    Descriptor(try systemCall("open") { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) })
  }

  func openFolder(_ name: String) throws(SystemError) -> Descriptor {
    Descriptor(
      try systemCall("openat") { openat(number, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) })
  }

  /// Opens a file for reading. A named pipe in its place does not block.
  func openFile(_ name: String) throws(SystemError) -> Descriptor {
    Descriptor(try systemCall("openat") { openat(number, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) })
  }

  /// Creates a file that was not there.
  func createFile(_ name: String) throws(SystemError) -> Descriptor {
    Descriptor(
      try systemCall("openat") {
        openat(number, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, Descriptor.fileMode)
      })
  }

  /// Creates a folder; true if it was not there.
  func createFolder(_ name: String) throws(SystemError) -> Bool {
    try allowing(EEXIST) { () throws(SystemError) in
      try systemCall("mkdirat") { mkdirat(number, name, Descriptor.folderMode) }
    } != nil
  }

  func status(_ name: String) throws(SystemError) -> Status {
    var raw = stat()
    try systemCall("fstatat") { fstatat(number, name, &raw, AT_SYMLINK_NOFOLLOW) }
    return Status(raw)
  }

  /// Renames within the folder; what had the new name is replaced in the same step.
  func rename(_ old: String, to new: String) throws(SystemError) {
    try systemCall("renameat") { renameat(number, old, number, new) }
  }

  /// Gives a file a second name, which must be free.
  func link(_ old: String, to new: String) throws(SystemError) {
    try systemCall("linkat") { linkat(number, old, number, new, 0) }
  }

  func unlink(_ name: String) throws(SystemError) {
    try systemCall("unlinkat") { unlinkat(number, name, 0) }
  }

  /// Removes a folder if it is empty.
  func removeFolder(_ name: String) throws(SystemError) {
    try systemCall("unlinkat") { unlinkat(number, name, AT_REMOVEDIR) }
  }

  /// Gives a file or folder that this process just created to an owner.
  func give(to user: uid_t, _ group: gid_t) throws(SystemError) {
    let current = try status()
    guard current.user != user || current.group != group else { return }
    try systemCall("fchown") { fchown(number, user, group) }
  }

  /// One name in a folder.
  struct Entry {
    var name: String
    var kind: Kind
  }

  /// The folder's entries in no order. Names that are not UTF-8 cannot be a part of a key and are left out.
  func entries() throws(SystemError) -> [Entry] {
    // A descriptor of its own: reading moves its position, and closing the stream closes it.
    let own = try allowing(ENOENT) { () throws(SystemError) in
      try systemCall("openat") { openat(number, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    }
    // Removed since it was opened: it is empty.
    guard let own else { return [] }
    guard let stream = fdopendir(own) else {
      let error = SystemError("fdopendir")
      close(own)
      throw error
    }
    defer { closedir(stream) }
    guard let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name) else { throw SystemError("readdir", ENOSYS) }
    var entries: [Entry] = []
    while true {
      errno = 0
      guard let raw = readdir(stream) else {
        if errno != 0 { throw SystemError("readdir") }
        return entries
      }
      // Read in place: an entry is shorter than the C struct declares, a copy would read past its end.
      let text = UnsafeRawPointer(raw).advanced(by: nameOffset).assumingMemoryBound(to: CChar.self)
      guard let name = String(validatingCString: text), name != ".", name != ".." else { continue }
      let kind: Kind
      switch Int32(raw.pointee.d_type) {
      case Int32(DT_REG): kind = .file
      case Int32(DT_DIR): kind = .folder
      case Int32(DT_LNK): kind = .symbolicLink
      case Int32(DT_UNKNOWN):
        guard let status = try allowing(ENOENT, call: { () throws(SystemError) in try status(name) }) else { continue }
        kind = status.kind
      default: kind = .other
      }
      entries.append(Entry(name: name, kind: kind))
    }
  }
}
