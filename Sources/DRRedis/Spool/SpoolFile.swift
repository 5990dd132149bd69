import DRCore
import Foundation
import NIOCore

/// A temporary file without a name, for what waits: it goes with the process, however that ends, and only its user can read it.
///
/// Its calls block. `@unchecked Sendable`: one at a time uses it.
final class SpoolFile: @unchecked Sendable {
  private let folder: String
  private let descriptor: Int32
  /// Bytes that were appended since it was last emptied.
  private(set) var end: Int64 = 0

  /// - Throws: ``DRError`` with `notWritable`.
  init(in folder: String) throws {
    var template = Array("\(folder)/dr-redis-spool-XXXXXX".utf8CString)
    descriptor = mkstemp(&template)
    guard descriptor >= 0 else {
      throw DRError(.notWritable, "no spool file can be made: \(lastErrorText())", object: folder)
    }
    self.folder = folder
    unlink(template)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
  }

  deinit { close(descriptor) }

  /// Returns where the bytes lie.
  ///
  /// - Throws: ``DRError``: `noSpace`, `notWritable`; then nothing was appended.
  func append(_ bytes: ByteBuffer) throws -> Int64 {
    let start = end
    try bytes.withUnsafeReadableBytes { raw in
      var done = 0
      while done < raw.count {
        let count = pwrite(
          descriptor, raw.baseAddress?.advanced(by: done), raw.count - done, off_t(start) + off_t(done))
        if count < 0, errno == EINTR { continue }
        guard count > 0 else {
          throw DRError(
            errno == ENOSPC ? .noSpace : .notWritable, "the spool cannot be written: \(lastErrorText())", object: folder
          )
        }
        done += count
      }
    }
    end = start + Int64(bytes.readableBytes)
    return start
  }

  /// - Throws: ``DRError`` with `notWritable`.
  func read(_ count: Int, at offset: Int64) throws -> ByteBuffer {
    var buffer = ByteBufferAllocator().buffer(capacity: count)
    var done = 0
    while done < count {
      var failure: Int32 = 0
      let got = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count - done) { raw in
        let got = pread(descriptor, raw.baseAddress, count - done, off_t(offset) + off_t(done))
        if got < 0 { failure = errno }
        return max(0, got)
      }
      if failure == EINTR { continue }
      guard got > 0 else {
        throw DRError(
          .notWritable, "the spool cannot be read: \(String(cString: strerror(failure)))", object: folder)
      }
      done += got
    }
    return buffer
  }

  /// Gives the disk's space back.
  func empty() {
    ftruncate(descriptor, 0)
    end = 0
  }
}
