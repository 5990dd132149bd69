import DRCore
import Foundation
import NIOCore

/// Whole segments that wait to be stored: some in memory, more in one file that has no name, up to a limit.
///
/// So a tier that is slow or away for a while does not make the server's output buffer grow until it drops us, or until it
/// has no memory left.
final class ChangeSpool: Sendable {
  private enum Place: Sendable {
    case memory(ByteBuffer)
    case file(offset: Int64, count: Int)
  }

  private struct State {
    var waiting: [(piece: ChangeAssembler.Piece, place: Place)] = []
    var inMemory = 0
    var descriptor: Int32 = -1
    var fileEnd: Int64 = 0
  }

  private let memoryLimit: Int
  private let limit: Int64
  private let folder: String
  private let state = MutableBox(State())

  init(memoryLimit: Int, limit: Int64, folder: String) {
    self.memoryLimit = memoryLimit
    self.limit = limit
    self.folder = folder
  }

  deinit {
    let descriptor = state.value.descriptor
    if descriptor >= 0 { close(descriptor) }
  }

  var isEmpty: Bool { state.withLock { $0.waiting.isEmpty } }

  /// Adds a segment.
  ///
  /// - Throws: ``DRError`` with `noSpace` past the limit: then nothing was added.
  func add(_ piece: ChangeAssembler.Piece) throws {
    try state.withLock { state in
      var piece = piece
      let bytes = piece.bytes
      if state.inMemory + bytes.readableBytes <= memoryLimit || state.waiting.isEmpty {
        state.inMemory += bytes.readableBytes
        piece.bytes = ByteBuffer()
        state.waiting.append((piece, .memory(bytes)))
        return
      }
      guard state.fileEnd + Int64(bytes.readableBytes) <= limit else {
        throw DRError(
          .noSpace, "changes wait to be stored and have filled the spool of \(limit) bytes",
          advice: "see why the tier takes no segments; the server is asked again for what was not stored",
          object: folder)
      }
      if state.descriptor < 0 { state.descriptor = try ChangeSpool.open(folder) }
      try ChangeSpool.write(bytes, state.descriptor, state.fileEnd, folder)
      piece.bytes = ByteBuffer()
      state.waiting.append((piece, .file(offset: state.fileEnd, count: bytes.readableBytes)))
      state.fileEnd += Int64(bytes.readableBytes)
    }
  }

  /// The oldest segment. It stays until ``removeFirst()``.
  func first() throws -> ChangeAssembler.Piece? {
    try state.withLock { state in
      guard let (piece, place) = state.waiting.first else { return nil }
      var whole = piece
      switch place {
      case .memory(let bytes): whole.bytes = bytes
      case .file(let offset, let count): whole.bytes = try ChangeSpool.read(state.descriptor, offset, count, folder)
      }
      return whole
    }
  }

  func removeFirst() {
    state.withLock { state in
      guard !state.waiting.isEmpty else { return }
      if case .memory(let bytes) = state.waiting.removeFirst().place { state.inMemory -= bytes.readableBytes }
      // Nothing of the file is needed any more.
      if state.fileEnd > 0, !state.waiting.contains(where: { if case .file = $0.place { true } else { false } }) {
        ftruncate(state.descriptor, 0)
        state.fileEnd = 0
      }
    }
  }

  private static func open(_ folder: String) throws -> Int32 {
    var template = Array("\(folder)/dr-redis-spool-XXXXXX".utf8CString)
    let descriptor = mkstemp(&template)
    guard descriptor >= 0 else {
      throw DRError(.notWritable, "no spool file can be made: \(lastErrorText())", object: folder)
    }
    // It goes with the process, however that ends.
    unlink(template)
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    return descriptor
  }

  private static func write(_ bytes: ByteBuffer, _ descriptor: Int32, _ offset: Int64, _ folder: String) throws {
    try bytes.withUnsafeReadableBytes { raw in
      var done = 0
      while done < raw.count {
        let count = pwrite(
          descriptor, raw.baseAddress?.advanced(by: done), raw.count - done, off_t(offset) + off_t(done))
        if count < 0, errno == EINTR { continue }
        guard count > 0 else {
          throw DRError(
            errno == ENOSPC ? .noSpace : .notWritable, "the spool cannot be written: \(lastErrorText())", object: folder
          )
        }
        done += count
      }
    }
  }

  private static func read(_ descriptor: Int32, _ offset: Int64, _ count: Int, _ folder: String) throws -> ByteBuffer {
    var buffer = ByteBufferAllocator().buffer(capacity: count)
    var done = 0
    while done < count {
      let got = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count - done) { raw in
        max(0, pread(descriptor, raw.baseAddress, count - done, off_t(offset) + off_t(done)))
      }
      guard got > 0 else {
        throw DRError(.notWritable, "the spool cannot be read: \(lastErrorText())", object: folder)
      }
      done += got
    }
    return buffer
  }
}
