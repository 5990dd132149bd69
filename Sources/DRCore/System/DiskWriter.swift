import Dispatch
package import NIOCore
import Synchronization

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
/// soon need not be copied into it, nor wait there until a sync finds it. The disk works on one piece while the next one is
/// gathered. What is small, and a large file's last bytes, go through the cache. Nothing is durable before the file is synced.
///
/// `@unchecked Sendable`: every call blocks, so one task uses it at a time, on its ``BlockingExecutor``; the thread of the
/// disk's own shares with it only the piece that it was given, until it gives that back.
package final class DiskWriter: @unchecked Sendable {
  /// A system call that failed.
  package struct Failure: Error {
    package var call: String
    package var number: Int32
  }

  /// From this size on a file is large.
  package static let large: Int64 = 1 << 20
  private static let pieceSize = 2 << 20
  /// Of memory, positions and lengths; no common disk asks for more.
  private static let alignment = 4096
  /// How much is written through the cache before the disk is asked to start on it.
  private static let writebackStep: Int64 = 8 << 20

  /// The caller's, of a small file.
  private var descriptor: Int32 = -1
  private var written: Int64 = 0
  private var started: Int64 = 0

  /// A large file's, a duplicate of the caller's: who gives up may close his while the disk still works.
  private var target: Int32 = -1
  private var isDirect = false
  /// One is gathered, one is with the disk.
  private var pieces: [UnsafeMutableRawPointer] = []
  private var gathering = 0
  private var filled = 0
  private let disk = DispatchQueue(label: "disaster-recovery.disk-writer")
  /// How many pieces are free besides the one that is gathered.
  private let free = DispatchSemaphore(value: 1)
  private let failure = Mutex<Failure?>(nil)

  package init() {}

  deinit {
    // What the disk works on keeps this alive.
    for piece in pieces { piece.deallocate() }
    if target >= 0 { close(target) }
  }

  /// Begins an empty file, which stays the caller's to sync and to close.
  ///
  /// - Parameter size: How many bytes are to come, at least.
  package func begin(_ descriptor: Int32, expecting size: Int64) {
    settle()
    failure.withLock { $0 = nil }
    self.descriptor = descriptor
    (filled, written, started) = (0, 0, 0)
    guard size >= Self.large else { return }
    target = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
    isDirect = target >= 0 && setDirect(true)
    guard isDirect else { return settle() }
    while pieces.count < 2 {
      pieces.append(.allocate(byteCount: Self.pieceSize, alignment: Self.alignment))
    }
  }

  package func write(_ buffer: ByteBuffer) throws(Failure) {
    try buffer.withUnsafeReadableBytes { (bytes) throws(Failure) in
      guard target >= 0 else {
        try put(bytes, into: descriptor)
        written += Int64(bytes.count)
        return startWriteback()
      }
      var rest = bytes
      while let base = rest.baseAddress, !rest.isEmpty {
        let count = min(rest.count, Self.pieceSize - filled)
        (pieces[gathering] + filled).copyMemory(from: base, byteCount: count)
        filled += count
        rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
        if filled == Self.pieceSize { try handOver() }
      }
    }
  }

  /// Writes what is left.
  package func end() throws(Failure) {
    guard target >= 0 else { return }
    disk.sync {}
    defer { settle() }
    if let failure = failure.withLock({ $0 }) { throw failure }
    let aligned = filled / Self.alignment * Self.alignment
    let piece = pieces[gathering]
    try put(UnsafeRawBufferPointer(start: piece, count: aligned), into: target)
    if isDirect { isDirect = !setDirect(false) }
    try put(UnsafeRawBufferPointer(start: piece + aligned, count: filled - aligned), into: target)
  }

  /// Lets go of a large file, whatever became of it.
  private func settle() {
    disk.sync {}
    filled = 0
    guard target >= 0 else { return }
    close(target)
    target = -1
  }

  private func handOver() throws(Failure) {
    let number = gathering
    disk.async {
      self.writePiece(number)
      self.free.signal()
    }
    free.wait()
    gathering = 1 - gathering
    filled = 0
    if let failure = failure.withLock({ $0 }) { throw failure }
  }

  /// On the disk's own thread.
  private func writePiece(_ number: Int) {
    guard failure.withLock({ $0 == nil }) else { return }
    do {
      try put(UnsafeRawBufferPointer(start: pieces[number], count: Self.pieceSize), into: target)
    } catch {
      failure.withLock { $0 = error }
    }
  }

  private func put(_ bytes: UnsafeRawBufferPointer, into descriptor: Int32) throws(Failure) {
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
        if number == EINVAL, descriptor == target, isDirect, setDirect(false) {
          isDirect = false
          continue
        }
        throw Failure(call: "write", number: number)
      }
      guard count > 0 else { throw Failure(call: "write", number: EIO) }
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
    let flags = fcntl(target, F_GETFL)
    return flags >= 0 && fcntl(target, F_SETFL, isOn ? flags | flag : flags & ~flag) == 0
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
