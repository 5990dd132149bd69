import DRCore
import Foundation
import NIOCore

/// Files as the server's commands read and write them. Blocking.
enum WALFile {
  /// The largest WAL segment there is.
  private static let sizeLimit = 1 << 30

  /// - Throws: ``DRError`` with `sourceFailed`.
  static func read(_ path: String) throws -> ByteBuffer {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("cannot be opened", path) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure("cannot be looked at", path) }
    let size = Int(status.st_size)
    guard status.st_mode & S_IFMT == S_IFREG, size <= sizeLimit else {
      throw DRError(.sourceFailed, "this is no WAL file", object: path)
    }
    var content = ByteBufferAllocator().buffer(capacity: size)
    // One byte more than it should have, to see that it does not grow.
    while content.readableBytes <= size {
      let count = try content.writeWithUnsafeMutableBytes(minimumWritableBytes: size + 1 - content.readableBytes) {
        let count = Foundation.read(descriptor, $0.baseAddress, $0.count)
        guard count >= 0 || errno == EINTR else { throw failure("cannot be read", path) }
        return max(count, 0)
      }
      if count == 0 { break }
    }
    guard content.readableBytes == size else {
      throw DRError(.sourceFailed, "the file changed while it was read", object: path)
    }
    return content
  }

  /// Writes a file under another name, syncs it, renames it, and syncs the folder: it is there whole, or not.
  ///
  /// - Throws: ``DRError``: `notWritable`, `noSpace`.
  static func write(_ content: ByteBuffer, to path: String) throws {
    let temporary = path + ".dr-wal"
    do {
      let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
      guard descriptor >= 0 else { throw failure("cannot be created", temporary) }
      defer { close(descriptor) }
      try content.withUnsafeReadableBytes { bytes in
        var rest = bytes[...]
        while !rest.isEmpty {
          let count = Foundation.write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
          guard count >= 0 || errno == EINTR else { throw failure("cannot be written", temporary) }
          rest = rest.dropFirst(max(count, 0))
        }
      }
      guard fsync(descriptor) == 0 else { throw failure("cannot be synced", temporary) }
      guard rename(temporary, path) == 0 else { throw failure("cannot be put in place", path) }
    } catch {
      unlink(temporary)
      throw error
    }
    let parent = (path as NSString).deletingLastPathComponent
    let folder = open(parent.isEmpty ? "." : parent, O_RDONLY | O_CLOEXEC)
    guard folder >= 0 else { throw failure("cannot be opened", parent) }
    defer { close(folder) }
    guard fsync(folder) == 0 else { throw failure("cannot be synced", parent) }
  }

  private static func failure(_ what: String, _ path: String) -> DRError {
    let number = errno
    let code: DRError.Code = number == ENOSPC || number == EDQUOT ? .noSpace : .notWritable
    return DRError(code, "\(what): \(String(cString: strerror(number)))", object: path)
  }
}
