import DRStorage
import Foundation

/// What a walk through a tree needs of an open folder or file. A name is one component: no call follows a symbolic link.
extension Descriptor {
  /// Opens a folder by its path, following symbolic links: for the root of a tree alone.
  static func root(_ path: String) throws(SystemError) -> Descriptor {
    Descriptor(try systemCall("open") { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) })
  }

  func fileStatus() throws(SystemError) -> FileStatus {
    var raw = stat()
    try systemCall("fstat") { fstat(number, &raw) }
    return FileStatus(raw)
  }

  func fileStatus(_ name: [UInt8]) throws(SystemError) -> FileStatus {
    var raw = stat()
    try withName(name) { (name) throws(SystemError) in
      _ = try systemCall("fstatat") { fstatat(number, name, &raw, AT_SYMLINK_NOFOLLOW) }
    }
    return FileStatus(raw)
  }

  /// As ``fileStatus(_:)``, or nil if there is nothing of that name.
  func statusIfPresent(_ name: [UInt8]) throws(SystemError) -> FileStatus? {
    try allowing(ENOENT) { () throws(SystemError) in try fileStatus(name) }
  }

  func folder(_ name: [UInt8]) throws(SystemError) -> Descriptor {
    try withName(name) { (name) throws(SystemError) in
      Descriptor(
        try systemCall("openat") { openat(number, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) })
    }
  }

  /// Opens a file for reading. A named pipe in its place does not block.
  func file(_ name: [UInt8]) throws(SystemError) -> Descriptor {
    try withName(name) { (name) throws(SystemError) in
      Descriptor(try systemCall("openat") { openat(number, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) })
    }
  }

  /// Creates a file that was not there, for its owner alone.
  func create(_ name: [UInt8]) throws(SystemError) -> Descriptor {
    try withName(name) { (name) throws(SystemError) in
      Descriptor(
        try systemCall("openat") { openat(number, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600) })
    }
  }

  /// Creates a folder for its owner alone; false if something of that name is there.
  @discardableResult
  func makeFolder(_ name: [UInt8]) throws(SystemError) -> Bool {
    try withName(name) { (name) throws(SystemError) in
      try allowing(EEXIST) { () throws(SystemError) in
        try systemCall("mkdirat") { mkdirat(number, name, 0o700) }
      } != nil
    }
  }

  func linkTarget(_ name: [UInt8]) throws(SystemError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = try withName(name) { (name) throws(SystemError) in
      try systemCall("readlinkat") {
        bytes.withUnsafeMutableBytes { memory in
          guard let base = memory.baseAddress else { return -1 }
          return readlinkat(number, name, base.assumingMemoryBound(to: CChar.self), memory.count)
        }
      }
    }
    return [UInt8](bytes.prefix(count))
  }

  func makeSymbolicLink(_ name: [UInt8], to target: [UInt8]) throws(SystemError) {
    try withName(name) { (name) throws(SystemError) in
      try withName(target) { (target) throws(SystemError) in
        _ = try systemCall("symlinkat") { symlinkat(target, number, name) }
      }
    }
  }

  /// Gives a file a second name, which must be free; a symbolic link itself, not what it points to.
  func link(_ name: [UInt8], in folder: Descriptor, to new: [UInt8]) throws(SystemError) {
    try withName(name) { (name) throws(SystemError) in
      try withName(new) { (new) throws(SystemError) in
        _ = try systemCall("linkat") { linkat(number, name, folder.number, new, 0) }
      }
    }
  }

  /// Renames into another folder; a file that had the new name is replaced in the same step.
  func rename(_ name: [UInt8], in folder: Descriptor, to new: [UInt8]) throws(SystemError) {
    try withName(name) { (name) throws(SystemError) in
      try withName(new) { (new) throws(SystemError) in
        _ = try systemCall("renameat") { renameat(number, name, folder.number, new) }
      }
    }
  }

  func unlink(_ name: [UInt8]) throws(SystemError) {
    try withName(name) { (name) throws(SystemError) in
      _ = try systemCall("unlinkat") { unlinkat(number, name, 0) }
    }
  }

  func removeFolder(_ name: [UInt8]) throws(SystemError) {
    try withName(name) { (name) throws(SystemError) in
      _ = try systemCall("unlinkat") { unlinkat(number, name, AT_REMOVEDIR) }
    }
  }

  /// Removes what has a name, with everything below it.
  func removeTree(_ name: [UInt8]) throws {
    guard let status = try statusIfPresent(name) else { return }
    guard status.kind == .folder else { return try unlink(name) }
    let inner = try folder(name)
    _ = fchmod(inner.number, 0o700)
    for entry in try inner.names() { try inner.removeTree(entry) }
    try removeFolder(name)
  }

  /// The names in the folder, by their bytes.
  func names() throws(SystemError) -> [[UInt8]] {
    // A descriptor of its own: reading moves its position, and closing the stream closes it.
    let own = try systemCall("openat") { openat(number, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard let stream = fdopendir(own) else {
      let error = SystemError("fdopendir")
      close(own)
      throw error
    }
    defer { closedir(stream) }
    guard let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name) else { throw SystemError("readdir", ENOSYS) }
    var names: [[UInt8]] = []
    while true {
      errno = 0
      guard let raw = readdir(stream) else {
        if errno != 0 { throw SystemError("readdir") }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
      }
      // Read in place: an entry is shorter than the C struct declares, a copy would read past its end.
      let text = UnsafeRawPointer(raw).advanced(by: nameOffset).assumingMemoryBound(to: CChar.self)
      let name = [UInt8](UnsafeRawBufferPointer(start: text, count: strlen(text)))
      if name.elementsEqual(".".utf8) || name.elementsEqual("..".utf8) { continue }
      names.append(name)
    }
  }

  /// Reads until the memory is full or the file ends.
  func read(at offset: Int64, into memory: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
    var filled = 0
    while filled < memory.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: memory[filled...])
      let got = try systemCall("read") { pread(number, rest.baseAddress, rest.count, off_t(offset) + off_t(filled)) }
      if got == 0 { break }
      filled += got
    }
    return filled
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int64) throws(SystemError) {
    var done = 0
    while done < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      let count = try systemCall("write") {
        pwrite(number, rest.baseAddress, rest.count, off_t(offset) + off_t(done))
      }
      guard count > 0 else { throw SystemError("write", EIO) }
      done += count
    }
  }

  /// Where a file holds data; nil if the file system cannot say, or if there are too many parts.
  func dataRuns(length: Int64, limit: Int) -> [Range<Int64>]? {
    #if canImport(Darwin)
      let (data, hole) = (SEEK_DATA, SEEK_HOLE)
    #else
      let (data, hole): (Int32, Int32) = (3, 4)
    #endif
    var runs: [Range<Int64>] = []
    var position: Int64 = 0
    while position < length {
      let start = lseek(number, off_t(position), data)
      if start < 0 { return errno == ENXIO ? runs : nil }
      let end = lseek(number, start, hole)
      guard end > start, runs.count < limit else { return nil }
      runs.append(Int64(start)..<min(Int64(end), length))
      position = Int64(end)
    }
    return runs
  }

  private func withName<Result>(
    _ name: [UInt8], _ body: (UnsafePointer<CChar>) throws(SystemError) -> Result
  ) throws(SystemError) -> Result {
    // A NUL would end the name early, and an empty one or a slash would lead elsewhere: callers have seen to it.
    let text = name.map { CChar(bitPattern: $0) } + [0]
    return try text.withUnsafeBufferPointer { (pointer) throws(SystemError) in
      guard let base = pointer.baseAddress else { throw SystemError("name", EINVAL) }
      return try body(base)
    }
  }
}
