import DRCore
package import NIOCore

import struct Foundation.Date

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// An open file or folder; closed when the last reference goes. Every call here blocks.
package final class Descriptor: Sendable {
  package let number: Int32

  package init(_ number: Int32) { self.number = number }

  deinit { close(number) }

  /// What lies behind a name.
  enum Kind {
    case file
    case folder
    case symbolicLink
    case other
  }

  /// What is known of a file without reading it.
  struct Status {
    var kind: Kind
    var size: Int64
    var modified: Date
    var user: uid_t
    var group: gid_t
    var links: UInt64
    /// Tells this file from every other that had its name: another file, another length, or another moment.
    var entityTag: String
    fileprivate var time: timespec

    init(_ raw: stat) {
      kind =
        switch raw.st_mode & S_IFMT {
        case S_IFREG: .file
        case S_IFDIR: .folder
        case S_IFLNK: .symbolicLink
        default: .other
        }
      size = Int64(raw.st_size)
      #if canImport(Darwin)
        let time = raw.st_mtimespec
      #else
        let time = raw.st_mtim
      #endif
      self.time = time
      modified = Date(timeIntervalSince1970: Double(time.tv_sec) + Double(time.tv_nsec) / 1e9)
      user = raw.st_uid
      group = raw.st_gid
      links = UInt64(raw.st_nlink)
      entityTag = [Int64(truncatingIfNeeded: raw.st_ino), size, Int64(time.tv_sec), Int64(time.tv_nsec)]
        .map { String($0, radix: 16) }.joined(separator: "-")
    }
  }

  func status() throws(SystemError) -> Status {
    var raw = stat()
    try systemCall("fstat") { fstat(number, &raw) }
    return Status(raw)
  }

  /// Writes everything, straight from the buffer's memory, at the file's position.
  package func write(_ buffer: ByteBuffer) throws(SystemError) {
    try buffer.withUnsafeReadableBytes { (bytes) throws(SystemError) in
      var rest = bytes
      while let base = rest.baseAddress, !rest.isEmpty {
        #if canImport(Darwin)
          let count = try systemCall("write") { Darwin.write(number, base, rest.count) }
        #elseif canImport(Musl)
          let count = try systemCall("write") { Musl.write(number, base, rest.count) }
        #else
          let count = try systemCall("write") { Glibc.write(number, base, rest.count) }
        #endif
        guard count > 0 else { throw SystemError("write", EIO) }
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
      }
    }
  }

  /// Reads into a new buffer until it holds `count` bytes or the file ends.
  func read(at offset: Int64, count: Int) throws(SystemError) -> ByteBuffer {
    var buffer = ByteBufferAllocator().buffer(capacity: count)
    try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { (bytes) throws(SystemError) in
      var filled = 0
      while filled < count {
        let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[filled..<count])
        let got = try systemCall("read") { pread(number, rest.baseAddress, rest.count, off_t(offset) + off_t(filled)) }
        if got == 0 { break }
        filled += got
      }
      return filled
    }
    return buffer
  }

  /// Asks the disk to start on what was written, without waiting: the sync at the end is short then.
  package func startWriteback(offset: Int64, count: Int64) {
    DiskSync.startWriteback(number, from: offset, count: count)
  }

  /// Dates the file a nanosecond after another of the same moment: the clock of a file system may stand still for some
  /// milliseconds, and a tag must differ from those before. A file from the future (a clock was set back) is no measure.
  func makeYounger(than other: Status) throws(SystemError) {
    var raw = stat()
    try systemCall("fstat") { fstat(number, &raw) }
    #if canImport(Darwin)
      let (own, last) = (raw.st_mtimespec, other.time)
    #else
      let (own, last) = (raw.st_mtim, other.time)
    #endif
    guard (own.tv_sec, own.tv_nsec) <= (last.tv_sec, last.tv_nsec), last.tv_sec - own.tv_sec <= 1 else { return }
    let wraps = last.tv_nsec >= 999_999_999
    let next = timespec(tv_sec: last.tv_sec + (wraps ? 1 : 0), tv_nsec: wraps ? 0 : last.tv_nsec + 1)
    try systemCall("futimens") { futimens(number, [next, next]) }
  }

  /// Makes the file's content, or the folder's entries, durable.
  package func sync() throws(SystemError) {
    #if canImport(Darwin)
      // fsync leaves the bytes in the drive's cache there.
      if fcntl(number, F_FULLFSYNC) == 0 { return }
    #endif
    try systemCall("fsync") { fsync(number) }
  }

  /// As ``sync()``, for a folder: some file systems (CIFS, FUSE) have nothing to sync there and say so.
  package func syncFolder() throws(SystemError) {
    try allowing(EINVAL, ENOTSUP, EBADF) { () throws(SystemError) in try sync() }
  }
}
