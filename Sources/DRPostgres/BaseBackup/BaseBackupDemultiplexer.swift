import DRCore
package import NIOCore

/// One archive of a base backup.
package enum BackupArchive: Hashable, Sendable {
  /// The data folder itself.
  case base
  /// A tablespace: its OID and where it lies on the server.
  case tablespace(oid: UInt32, location: String)
  /// The server's `backup_manifest`.
  case manifest

  /// The artifact that it becomes.
  var artifactName: String {
    switch self {
    case .base: "base.tar"
    case .tablespace(let oid, _): "\(oid).tar"
    case .manifest: "backup_manifest"
    }
  }

  /// The folder that the archive's paths are relative to, as the server sees it.
  var serverFolder: String {
    switch self {
    case .base, .manifest: ""
    case .tablespace(let oid, _): "pg_tblspc/\(oid)/"
    }
  }
}

/// Takes the typed copy messages of a base backup (PostgreSQL 15 and later) and fills frames with their data.
///
/// Source: PostgreSQL documentation, "Streaming Replication Protocol", BASE_BACKUP: `n` new archive, `m` manifest,
/// `d` data, `p` progress.
package struct BaseBackupDemultiplexer: Sendable {
  package let frameSize: Int
  /// The frame that is being filled.
  package private(set) var frame: ByteBuffer
  /// What came after the frame was full.
  private var carry = ByteBuffer()
  /// Set when a message began another archive: what is in the frame belongs to the one before.
  package private(set) var following: BackupArchive?

  package init(frameSize: Int, frame: ByteBuffer) {
    self.frameSize = frameSize
    self.frame = frame
  }

  /// Takes one message. `pause` says that the frame is full or the archive has ended.
  ///
  /// - Throws: ``DRError`` with `malformedData` for what a server of a known version does not send.
  package mutating func take(_ message: UnsafeRawBufferPointer) throws -> CopyControl {
    guard let type = message.first else { throw BaseBackupDemultiplexer.malformed("an empty message") }
    let body = UnsafeRawBufferPointer(rebasing: message[1...])
    switch type {
    case UInt8(ascii: "d"):
      return fill(body)
    case UInt8(ascii: "n"):
      following = try BaseBackupDemultiplexer.archive(body)
      return .pause
    case UInt8(ascii: "m"):
      following = .manifest
      return .pause
    case UInt8(ascii: "p"):
      return .proceed
    default:
      throw BaseBackupDemultiplexer.malformed("a message of type \(type)")
    }
  }

  /// Takes data that comes without a type (PostgreSQL 13 and 14, after their documentation).
  package mutating func fill(_ data: UnsafeRawBufferPointer) -> CopyControl {
    let room = frameSize - frame.readableBytes
    if data.count <= room {
      frame.writeBytes(data)
    } else {
      frame.writeBytes(UnsafeRawBufferPointer(rebasing: data[..<room]))
      carry.writeBytes(UnsafeRawBufferPointer(rebasing: data[room...]))
    }
    return frame.readableBytes >= frameSize ? .pause : .proceed
  }

  /// Gives the frame away and starts another, with what came after the last one was full.
  package mutating func takeFrame(replacement: ByteBuffer) -> ByteBuffer {
    let full = frame
    frame = replacement
    frame.writeBuffer(&carry)
    carry.clear()
    return full
  }

  /// The archive that begins, once what came before it has been taken.
  package mutating func takeFollowing() -> BackupArchive? {
    defer { following = nil }
    return following
  }

  private static func archive(_ body: UnsafeRawBufferPointer) throws -> BackupArchive {
    let parts = body.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count >= 2 else { throw malformed("an archive without a name") }
    let name = String(decoding: parts[0], as: UTF8.self)
    let location = String(decoding: parts[1], as: UTF8.self)
    if location.isEmpty { return .base }
    guard let oid = UInt32(name.split(separator: ".").first ?? "") else {
      throw malformed("an archive of the name \(name.prefix(80).debugDescription)")
    }
    return .tablespace(oid: oid, location: location)
  }

  static func malformed(_ what: String) -> DRError {
    DRError(
      .malformedData, "the server's base backup holds \(what)",
      advice: "see whether something between this host and the server speaks for it")
  }
}
