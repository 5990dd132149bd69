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

/// Takes the copy messages of a base backup and fills frames with their data, which libpq writes straight into the frame.
///
/// A message of PostgreSQL 15 and later begins with a byte that says what it is. It is written one byte before the place of
/// its data, over the last byte that is there, which is then put back: so data lies where it belongs at once.
///
/// Source: PostgreSQL documentation, "Streaming Replication Protocol", BASE_BACKUP: `n` new archive, `m` manifest,
/// `d` data, `p` progress.
package struct BaseBackupDemultiplexer: Sendable {
  /// A message must be smaller than this. The server's have 32 KiB.
  static let messageLimit = (1 << 20) - headroom
  /// In front of a frame's first byte, whose place the type of the first message takes. A whole cache line keeps the
  /// data aligned.
  private static let headroom = 64

  package let frameSize: Int
  private let isTyped: Bool
  /// What waits to be taken, and in front of it one byte of the headroom.
  private var frame: ByteBuffer
  /// Set when a message began another archive: what is in the frame belongs to the one before.
  package private(set) var following: BackupArchive?

  /// The capacity of a buffer that holds a frame, and beyond it what a message can add to one that is almost full.
  /// Memory that is never written is never used.
  package static func capacity(frameSize: Int) -> Int { headroom + frameSize + messageLimit }

  /// - Parameters:
  ///   - isTyped: PostgreSQL 15 and later; 13 and 14 send data alone.
  ///   - frame: Empty; of ``capacity(frameSize:)``, or it is given that.
  package init(frameSize: Int, isTyped: Bool, frame: consuming ByteBuffer) {
    self.frameSize = frameSize
    self.isTyped = isTyped
    self.frame = Self.prepared(frame, frameSize: frameSize)
  }

  /// Stands for one that is lent out: with no frame, it takes nothing.
  static let lent = BaseBackupDemultiplexer()

  private init() {
    (frameSize, isTyped, frame) = (-1, false, ByteBuffer())
  }

  /// How many bytes wait to be taken: up to a frame, and what the last message had beyond it.
  package var waiting: Int { frame.readableBytes - 1 }

  /// Takes one message.
  ///
  /// - Parameter read: Writes the next message into the memory and gives its length, or 0 if there is none.
  /// - Returns: `pause` when the frame is full or the archive has ended; nil if there was no message.
  /// - Throws: ``DRError`` with `malformedData` for what a server of a known version does not send.
  package mutating func take(_ read: (UnsafeMutableRawBufferPointer) throws -> Int) throws -> CopyControl? {
    guard waiting < frameSize else { return .pause }
    let end = frame.writerIndex
    let place = isTyped ? end - 1 : end
    frame.moveWriterIndex(to: place)
    defer { if frame.writerIndex < end { frame.moveWriterIndex(to: end) } }
    let isTyped = isTyped
    let (count, other) = try frame.withUnsafeMutableWritableBytes { memory -> (Int, [UInt8]) in
      let last = memory[0]
      defer { if isTyped { memory[0] = last } }
      let count = try read(memory)
      guard count < memory.count else {
        throw BaseBackupDemultiplexer.malformed("a message of \(count) bytes or more")
      }
      guard isTyped, count > 0, memory[0] != UInt8(ascii: "d") else { return (count, []) }
      return (count, [UInt8](memory[..<count]))
    }
    guard count > 0 else { return nil }
    guard other.isEmpty else { return try takeOther(other) }
    frame.moveWriterIndex(to: place + count)
    return waiting >= frameSize ? .pause : .proceed
  }

  /// Takes a message that is not data.
  private mutating func takeOther(_ message: [UInt8]) throws -> CopyControl {
    switch message[0] {
    case UInt8(ascii: "n"):
      following = try BaseBackupDemultiplexer.archive(message.dropFirst())
      return .pause
    case UInt8(ascii: "m"):
      following = .manifest
      return .pause
    case UInt8(ascii: "p"):
      return .proceed
    default:
      throw BaseBackupDemultiplexer.malformed("a message of type \(message[0])")
    }
  }

  /// Gives the frame away and starts another, with what came after this one was full.
  ///
  /// The replacement is consumed so that nobody else refers to its memory: the first write would copy all of it.
  package mutating func takeFrame(replacement: consuming ByteBuffer) -> ByteBuffer {
    var full = Self.prepared(replacement, frameSize: frameSize)
    swap(&full, &frame)
    full.moveReaderIndex(forwardBy: 1)
    let excess = full.readableBytes - frameSize
    if excess > 0 {
      full.withUnsafeReadableBytes { bytes in
        _ = frame.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[frameSize...]))
      }
      full.moveWriterIndex(to: full.writerIndex - excess)
    }
    return full
  }

  private static func prepared(_ buffer: consuming ByteBuffer, frameSize: Int) -> ByteBuffer {
    var frame = buffer
    frame.reserveCapacity(capacity(frameSize: frameSize))
    frame.moveWriterIndex(to: headroom)
    frame.moveReaderIndex(to: headroom - 1)
    return frame
  }

  /// The archive that begins, once what came before it has been taken.
  package mutating func takeFollowing() -> BackupArchive? {
    defer { following = nil }
    return following
  }

  private static func archive(_ body: ArraySlice<UInt8>) throws -> BackupArchive {
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
