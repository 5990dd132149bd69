import DRCore
import NIOCore

/// The archives of a running base backup, one after the other, each as frames.
///
/// `@unchecked Sendable`: the archives are read one after the other, each by one consumer, and calls never overlap.
final class BaseBackupStream: @unchecked Sendable {
  private let connection: PostgresConnection
  private let pool: BufferPool
  private let isTyped: Bool
  private let tablespaces: [BackupArchive]
  private var demultiplexer: BaseBackupDemultiplexer
  private var nextTablespace = 0
  private var copyBegan = false
  private var copyEnded = false
  private var archiveEnded = true

  /// - Parameters:
  ///   - tablespaces: As the server listed them, for versions that send each in a copy of its own.
  init(
    _ connection: PostgresConnection, serverVersion: Int, tablespaces: [BackupArchive], frameSize: Int,
    pool: BufferPool
  ) {
    self.connection = connection
    self.pool = pool
    self.tablespaces = tablespaces
    isTyped = serverVersion >= BaseBackupCommand.parenthesised
    demultiplexer = BaseBackupDemultiplexer(frameSize: frameSize, isTyped: isTyped, frame: pool.take())
  }

  /// The next archive, or nil after the last. The one before must have been read to its end.
  func nextArchive() async throws -> BackupArchive? {
    guard archiveEnded else {
      throw DRError(.truncatedData, "an archive of the base backup was not read to its end")
    }
    if isTyped {
      if !copyBegan { try await beginCopy() }
      if demultiplexer.following == nil, !copyEnded { try await readMessages() }
      guard let next = demultiplexer.takeFollowing() else {
        guard copyEnded else { throw BaseBackupDemultiplexer.malformed("data before its first archive") }
        return nil
      }
      archiveEnded = false
      return next
    }
    guard nextTablespace <= tablespaces.count else { return nil }
    try await beginCopy()
    let archive = nextTablespace < tablespaces.count ? tablespaces[nextTablespace] : .manifest
    nextTablespace += 1
    copyEnded = false
    archiveEnded = false
    return archive
  }

  /// The next frame of the archive, or nil at its end.
  func nextFrame() async throws -> ByteBuffer? {
    if archiveEnded { return nil }
    if demultiplexer.waiting < demultiplexer.frameSize, demultiplexer.following == nil, !copyEnded {
      try await readMessages()
    }
    if copyEnded || demultiplexer.following != nil, demultiplexer.waiting < demultiplexer.frameSize {
      archiveEnded = true
    }
    let frame = demultiplexer.takeFrame(replacement: pool.take())
    // A full frame may have left more behind, which is then the next frame.
    if archiveEnded, demultiplexer.waiting > 0 { archiveEnded = false }
    return frame.readableBytes > 0 ? frame : nil
  }

  private func beginCopy() async throws {
    guard case .copyOut = try await connection.nextResult() else {
      throw BaseBackupDemultiplexer.malformed("fewer archives than were announced")
    }
    copyBegan = true
  }

  private func readMessages() async throws {
    var demultiplexer = demultiplexer
    // While two refer to the frame, the first write would copy it.
    self.demultiplexer = .lent
    defer { self.demultiplexer = demultiplexer }
    let state = try await connection.copyBatch(filling: &demultiplexer) { try $0.take($1) }
    copyEnded = state == .ended
  }
}
