import DRCore
import Foundation
import NIOCore

/// Writes the members of a tar below a folder, never outside it.
///
/// Belongs to one executor: blocking, and not thread-safe. Every component of a path that was not created here is opened
/// without following symbolic links.
///
/// `@unchecked Sendable`: one task uses it at a time, on its ``BlockingExecutor``.
final class FolderWriter: @unchecked Sendable {
  /// Files to keep in memory and to write at the very end, with their permission bits.
  private(set) var held: [String: (bytes: ByteBuffer, member: TarMember)] = [:]
  private(set) var files = 0
  private(set) var bytes: Int64 = 0

  private let root: String
  private let rootDescriptor: Int32
  private let owner: FileOwner?
  private let holds: Set<String>
  /// Where a symbolic link may point, by its path: nil refuses it.
  private let link: @Sendable (TarMember) throws -> String?
  #if os(Linux)
    private let syncsEachFile = false
  #else
    private let syncsEachFile = true
  #endif
  private var reader: TarReader
  private var folders: [String: Int32] = [:]
  private let disk = DiskWriter()
  private var current: (descriptor: Int32, path: String)?
  private var holding: (member: TarMember, bytes: ByteBuffer)?

  init(
    root: String, owner: FileOwner?, holding holds: Set<String> = [], object: String,
    link: @escaping @Sendable (TarMember) throws -> String?
  ) throws {
    self.root = root
    self.owner = owner
    self.holds = holds
    self.link = link
    reader = TarReader(object: object)
    rootDescriptor = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard rootDescriptor >= 0 else { throw FileError.make("open", root) }
  }

  deinit {
    if let current { close(current.descriptor) }
    for descriptor in folders.values { close(descriptor) }
    close(rootDescriptor)
  }

  /// Writes what a frame of the archive holds.
  ///
  /// - Throws: ``DRError``: `malformedData`, `invalidKey`, `noSpace`, `notWritable`.
  func write(_ frame: ByteBuffer) throws {
    do {
      try take(frame)
    } catch var error as DRError where error.code == .noSpace || error.code == .notWritable {
      // Which disk it was.
      error.object = error.object.map { $0.hasPrefix("/") ? $0 : "\(root)/\($0)" }
      throw error
    }
  }

  private func take(_ frame: ByteBuffer) throws {
    reader.append(frame)
    while let event = try reader.next() {
      switch event {
      case .directory(let member):
        _ = try folder(member.path, mode: member.mode)
      case .symlink(let member):
        try symlink(member)
      case .file(let member):
        if holds.contains(member.path) {
          guard member.size <= 1 << 20 else {
            throw DRError(.malformedData, "\(member.path) has \(member.size) bytes", object: member.path)
          }
          holding = (member, ByteBuffer())
        } else {
          try begin(member)
        }
      case .data(let slice):
        if holding != nil { holding?.bytes.writeImmutableBuffer(slice) } else { try append(slice) }
        bytes += Int64(slice.readableBytes)
      case .fileEnd:
        files += 1
        if let (member, bytes) = holding {
          held[member.path] = (bytes, member)
          holding = nil
        } else if let current {
          try FileError.files.writing(current.path) { () throws(DiskWriter.Failure) in try disk.end() }
          if syncsEachFile, fsync(current.descriptor) != 0 { throw FileError.make("fsync", current.path) }
          self.current = nil
          guard close(current.descriptor) == 0 else { throw FileError.make("close", current.path) }
        }
      case .hardLink(let member):
        throw DRError(.malformedData, "the archive holds a hard link", object: member.path)
      case .end:
        break
      }
    }
  }

  /// - Throws: ``DRError`` with `truncatedData` if the archive ended in the middle.
  func finish() throws { try reader.finish() }

  /// Writes a file that was kept back, or one that was not in the archive; it is durable when this returns.
  func put(_ path: String, _ content: ByteBuffer, mode: UInt32) throws {
    let (parent, name) = try parent(of: path)
    let temporary = name + ".dr-tmp"
    let descriptor = openat(parent, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FileError.make("create", path) }
    defer { close(descriptor) }
    disk.begin(descriptor, expecting: Int64(content.readableBytes))
    try FileError.files.writing(path) { () throws(DiskWriter.Failure) in
      try disk.write(content)
      try disk.end()
    }
    try settle(descriptor, mode: mode, path)
    guard fsync(descriptor) == 0 else { throw FileError.make("fsync", path) }
    guard renameat(parent, temporary, parent, name) == 0 else { throw FileError.make("rename", path) }
    guard fsync(parent) == 0 else { throw FileError.make("fsync", path) }
  }

  /// Makes everything written so far durable.
  func sync() throws {
    // One call for a thousand small files: an fsync of each would wait for the journal as often.
    guard !syncsEachFile else { return }
    guard DiskSync.syncFileSystem(rootDescriptor) else { throw FileError.make("syncfs", root) }
  }

  private func begin(_ member: TarMember) throws {
    let (parent, name) = try parent(of: member.path)
    let descriptor = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FileError.make("create", member.path) }
    current = (descriptor, member.path)
    try settle(descriptor, mode: member.mode, member.path)
    disk.begin(descriptor, expecting: member.size)
  }

  private func append(_ slice: ByteBuffer) throws {
    guard let current else { throw DRError(.malformedData, "content without a file") }
    try FileError.files.writing(current.path) { () throws(DiskWriter.Failure) in try disk.write(slice) }
  }

  private func settle(_ descriptor: Int32, mode: UInt32, _ path: String) throws {
    // Never more than a server accepts of its own files.
    guard fchmod(descriptor, mode_t(mode & 0o640 | 0o600)) == 0 else { throw FileError.make("chmod", path) }
    if let owner {
      guard fchown(descriptor, owner.user, owner.group) == 0 else { throw FileError.make("chown", path) }
    }
  }

  private func symlink(_ member: TarMember) throws {
    guard let target = try link(member) else {
      throw DRError(
        .invalidKey, "the archive holds a symbolic link that is no tablespace: \(member.path)",
        advice: "do not trust this archive", object: member.path)
    }
    let (parent, name) = try parent(of: member.path)
    guard symlinkat(target, parent, name) == 0 else { throw FileError.make("symlink", member.path) }
    if let owner {
      guard fchownat(parent, name, owner.user, owner.group, AT_SYMLINK_NOFOLLOW) == 0 else {
        throw FileError.make("chown", member.path)
      }
    }
  }

  private func parent(of path: String) throws -> (descriptor: Int32, name: String) {
    guard let slash = path.lastIndex(of: "/") else { return (rootDescriptor, path) }
    return (try folder(String(path[..<slash]), mode: nil), String(path[path.index(after: slash)...]))
  }

  /// The descriptor of a folder below the root, created if it is not there.
  private func folder(_ path: String, mode: UInt32?) throws -> Int32 {
    if let known = folders[path] { return known }
    // A data folder has few folders; a hostile archive may have many.
    if folders.count >= 512 {
      for descriptor in folders.values { close(descriptor) }
      folders.removeAll()
    }
    let (parent, name) = try parent(of: path)
    if mkdirat(parent, name, 0o700) != 0, errno != EEXIST { throw FileError.make("mkdir", path) }
    let descriptor = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError.make("open", path) }
    folders[path] = descriptor
    if let mode {
      guard fchmod(descriptor, mode_t(mode & 0o750 | 0o700)) == 0 else { throw FileError.make("chmod", path) }
    }
    if let owner {
      guard fchown(descriptor, owner.user, owner.group) == 0 else { throw FileError.make("chown", path) }
    }
    return descriptor
  }
}
