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
    var file: SpoolFile?
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
      guard (state.file?.end ?? 0) + Int64(bytes.readableBytes) <= limit else {
        throw DRError(
          .noSpace, "changes wait to be stored and have filled the spool of \(limit) bytes",
          advice: "see why the tier takes no segments; the server is asked again for what was not stored",
          object: folder)
      }
      let file = try state.file ?? SpoolFile(in: folder)
      state.file = file
      piece.bytes = ByteBuffer()
      state.waiting.append((piece, .file(offset: try file.append(bytes), count: bytes.readableBytes)))
    }
  }

  /// The oldest segment. It stays until ``removeFirst()``.
  func first() throws -> ChangeAssembler.Piece? {
    try state.withLock { state in
      guard let (piece, place) = state.waiting.first else { return nil }
      var whole = piece
      switch place {
      case .memory(let bytes): whole.bytes = bytes
      case .file(let offset, let count): whole.bytes = try state.file?.read(count, at: offset) ?? ByteBuffer()
      }
      return whole
    }
  }

  func removeFirst() {
    state.withLock { state in
      guard !state.waiting.isEmpty else { return }
      if case .memory(let bytes) = state.waiting.removeFirst().place { state.inMemory -= bytes.readableBytes }
      // Nothing of the file is needed any more.
      if let file = state.file, file.end > 0,
        !state.waiting.contains(where: { if case .file = $0.place { true } else { false } })
      {
        file.empty()
      }
    }
  }
}
