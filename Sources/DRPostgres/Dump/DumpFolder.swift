import DRCore
import Foundation
import NIOCore

/// A temporary folder that holds a dump in the directory format; gone when its work has ended, and if its process was killed, when the next one
/// is made: it is locked for as long as its process lives.
struct DumpFolder: Sendable {
  let path: String

  private static let prefix = "dr-dump-"
  private static let lock = "lock"

  static func with<Result: Sendable>(_ body: @Sendable (DumpFolder) async throws -> Result) async throws -> Result {
    removeAbandoned()
    let home = FileManager.default.temporaryDirectory.appending(path: prefix + UUID().uuidString).path
    try FileManager.default.createDirectory(
      atPath: home, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    defer { try? remove(home) }
    let claim = open("\(home)/\(lock)", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard claim >= 0 else { throw FileError.make("create", "\(home)/\(lock)") }
    defer { close(claim) }
    guard flock(claim, LOCK_EX | LOCK_NB) == 0 else { throw FileError.make("lock", "\(home)/\(lock)") }
    return try await body(DumpFolder(path: home + "/dump"))
  }

  /// The data of dumps whose processes were killed. Only what is this process's own user's is looked at.
  private static func removeAbandoned() {
    let parent = FileManager.default.temporaryDirectory.path
    for name in (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? [] where name.hasPrefix(prefix) {
      let home = "\(parent)/\(name)"
      var status = stat()
      guard lstat(home, &status) == 0, mode_t(status.st_mode) & S_IFMT == S_IFDIR, status.st_uid == geteuid() else {
        continue
      }
      // One that was just made has no lock yet.
      let claim = open("\(home)/\(lock)", O_RDWR | O_CLOEXEC | O_NOFOLLOW)
      guard claim >= 0 else { continue }
      if flock(claim, LOCK_EX | LOCK_NB) == 0 { try? remove(home) }
      close(claim)
    }
  }

  /// The lock last.
  private static func remove(_ home: String) throws {
    for name in try FileManager.default.contentsOfDirectory(atPath: home) where name != lock {
      try FileManager.default.removeItem(atPath: "\(home)/\(name)")
    }
    try FileManager.default.removeItem(atPath: home)
  }

  /// Its files as a tar.
  func tar() throws -> ByteStream {
    let names = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
    let executor = BlockingExecutor(label: "postgres.dump.tar")
    let state = MutableBox(DumpTar(folder: path, names: names[...]))
    return ByteStream { try await executor.run { try state.withLock { try $0.next() } } }
  }

  /// Writes a text beside the dump; gives its path.
  func note(_ text: String) throws -> String {
    let note = path + ".list"
    guard
      FileManager.default.createFile(atPath: note, contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
    else { throw FileError.make("create", note) }
    return note
  }

  /// Writes a stream as the one file that it is.
  func spool(_ content: ByteStream) async throws {
    let executor = BlockingExecutor(label: "postgres.dump.spool")
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FileError.make("create", path) }
    let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    for try await buffer in content {
      try await executor.run { [path] in
        do {
          try file.write(contentsOf: Data(buffer.readableBytesView))
        } catch {
          throw FileError.make("write", path)
        }
      }
    }
  }

  /// Writes the files of a tar into it: plain names only.
  func extract(_ content: ByteStream, object: String) async throws {
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
    let executor = BlockingExecutor(label: "postgres.dump.tar")
    let writer = try await executor.run { [path] in
      try FolderWriter(root: path, owner: nil, object: object, link: { _ in nil })
    }
    for try await buffer in content { try await executor.run { try writer.write(buffer) } }
    try await executor.run { try writer.finish() }
  }
}

/// Reads the files of a folder one after the other, as the bytes of a tar.
private struct DumpTar: Sendable {
  let folder: String
  var names: ArraySlice<String>
  private var current: (file: FileHandle, left: Int64, padding: Int)?
  private var isAtEnd = false

  init(folder: String, names: ArraySlice<String>) {
    self.folder = folder
    self.names = names
  }

  mutating func next() throws -> ByteBuffer? {
    var buffer = ByteBuffer()
    if var open = current {
      let part = try open.file.read(upToCount: Int(min(open.left, 1 << 20))) ?? Data()
      guard open.left == 0 || !part.isEmpty else {
        throw DRError(.truncatedData, "a file of the dump became shorter while it was read", object: folder)
      }
      buffer.writeBytes(part)
      open.left -= Int64(part.count)
      current = open
      if open.left == 0 {
        buffer.writeRepeatingByte(0, count: open.padding)
        current = nil
      }
      return buffer
    }
    guard let name = names.popFirst() else {
      guard !isAtEnd else { return nil }
      isAtEnd = true
      return ByteBuffer(repeating: 0, count: TarWriter.trailerSize)
    }
    let path = "\(folder)/\(name)"
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw DRError(.truncatedData, "a file of the dump cannot be read", object: path)
    }
    let size = Int64(try file.seekToEnd())
    try file.seek(toOffset: 0)
    TarWriter.write(
      TarMember(kind: .file, rawPath: Array(name.utf8), size: size, mode: 0o600, modified: 0), into: &buffer)
    if size > 0 { current = (file, size, TarWriter.padding(size)) }
    return buffer
  }
}
