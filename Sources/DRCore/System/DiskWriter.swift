package import NIOCore

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Writes files, one after the other and each from its start to its end, as fast as the disk takes them.
///
/// What is large goes past the page cache (`O_DIRECT`, open(2)), where system and file system can do that: what nobody reads
/// soon need not be copied into it, nor wait there until a sync finds it. What is small, and a large file's last bytes, go
/// through the cache. Nothing is durable before the file is synced.
///
/// `@unchecked Sendable`: every call blocks, so one task uses it at a time, on its ``BlockingExecutor``.
package final class DiskWriter: @unchecked Sendable {
  /// A system call that failed.
  package struct Failure: Error {
    package var call: String
    package var number: Int32
  }

  /// From this size on a file is large.
  package static let large: Int64 = 1 << 20
  private static let capacity = 2 << 20
  /// Of memory, positions and lengths; no common disk asks for more.
  private static let alignment = 4096
  /// How much is written through the cache before the disk is asked to start on it.
  private static let writebackStep: Int64 = 8 << 20

  private var descriptor: Int32 = -1
  private var isStaged = false
  private var isDirect = false
  private var memory: UnsafeMutableRawPointer?
  private var filled = 0
  private var written: Int64 = 0
  private var started: Int64 = 0

  package init() {}

  deinit { memory?.deallocate() }

  /// Begins an empty file, which stays the caller's to sync and to close.
  ///
  /// - Parameter size: How many bytes are to come, at least.
  package func begin(_ descriptor: Int32, expecting size: Int64) {
    self.descriptor = descriptor
    (filled, written, started) = (0, 0, 0)
    isDirect = size >= Self.large && setDirect(true)
    isStaged = isDirect
    if isStaged, memory == nil { memory = .allocate(byteCount: Self.capacity, alignment: Self.alignment) }
  }

  package func write(_ buffer: ByteBuffer) throws(Failure) {
    try buffer.withUnsafeReadableBytes { (bytes) throws(Failure) in
      guard isStaged, let memory else {
        try put(bytes)
        return startWriteback()
      }
      var rest = bytes
      while let base = rest.baseAddress, !rest.isEmpty {
        let count = min(rest.count, Self.capacity - filled)
        (memory + filled).copyMemory(from: base, byteCount: count)
        filled += count
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
        if filled == Self.capacity {
          try put(UnsafeRawBufferPointer(start: memory, count: filled))
          filled = 0
        }
      }
    }
  }

  /// Writes what is left.
  package func end() throws(Failure) {
    guard isStaged, let memory else { return }
    let aligned = filled / Self.alignment * Self.alignment
    try put(UnsafeRawBufferPointer(start: memory, count: aligned))
    if isDirect { isDirect = !setDirect(false) }
    try put(UnsafeRawBufferPointer(start: memory + aligned, count: filled - aligned))
    (isStaged, filled) = (false, 0)
  }

  private func put(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
    var rest = bytes
    while let base = rest.baseAddress, !rest.isEmpty {
      #if canImport(Darwin)
        let count = Darwin.write(descriptor, base, rest.count)
      #elseif canImport(Musl)
        let count = Musl.write(descriptor, base, rest.count)
      #else
        let count = Glibc.write(descriptor, base, rest.count)
      #endif
      if count < 0 {
        let number = errno
        if number == EINTR { continue }
        // A file system that takes the flag and not the write, or a disk that aligns otherwise.
        if isDirect, number == EINVAL, setDirect(false) {
          isDirect = false
          continue
        }
        throw Failure(call: "write", number: number)
      }
      guard count > 0 else { throw Failure(call: "write", number: EIO) }
      written += Int64(count)
      rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
    }
  }

  private func startWriteback() {
    guard written - started >= Self.writebackStep else { return }
    DiskSync.startWriteback(descriptor, from: started, count: written - started)
    started = written
  }

  /// - Returns: Whether it is so now.
  private func setDirect(_ isOn: Bool) -> Bool {
    guard let flag = Self.directFlag else { return false }
    let flags = fcntl(descriptor, F_GETFL)
    return flags >= 0 && fcntl(descriptor, F_SETFL, isOn ? flags | flag : flags & ~flag) == 0
  }

  /// Linux's C library shows it only to C; its value depends on the processor.
  private static let directFlag: Int32? = {
    #if os(Linux) && arch(x86_64)
      0o40000
    #elseif os(Linux) && arch(arm64)
      0o200000
    #else
      nil
    #endif
  }()
}
