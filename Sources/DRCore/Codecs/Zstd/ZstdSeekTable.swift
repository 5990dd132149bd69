import NIOCore

/// The table of the zstd seekable format (contrib/seekable_format/zstd_seekable_compression_format.md in zstd's
/// sources, version 0.1.1): a skippable frame at the end that gives the stored and the raw size of every frame.
struct ZstdSeekTable: Sendable, Equatable {
  struct Entry: Sendable, Equatable {
    var storedSize: UInt32
    var rawSize: UInt32
  }

  static let skippableMagic: UInt32 = 0x184D_2A5E
  static let seekableMagic: UInt32 = 0x8F92_EAB1
  static let footerSize = 9
  /// The format's own limit.
  static let maximumFrames = 0x800_0000

  var entries: [Entry] = []

  mutating func append(stored: Int, raw: Int) {
    entries.append(Entry(storedSize: UInt32(clamping: stored), rawSize: UInt32(clamping: raw)))
  }

  func encoded() throws -> ByteBuffer {
    guard entries.count <= ZstdSeekTable.maximumFrames else {
      throw DRError(.malformedData, "more frames than a seek table can hold", advice: "use a larger frame size")
    }
    let size = entries.count * 8 + ZstdSeekTable.footerSize
    var buffer = ByteBufferAllocator().buffer(capacity: size + 8)
    buffer.writeInteger(ZstdSeekTable.skippableMagic, endianness: .little)
    buffer.writeInteger(UInt32(clamping: size), endianness: .little)
    for entry in entries {
      buffer.writeInteger(entry.storedSize, endianness: .little)
      buffer.writeInteger(entry.rawSize, endianness: .little)
    }
    buffer.writeInteger(UInt32(clamping: entries.count), endianness: .little)
    buffer.writeInteger(UInt8(0))
    buffer.writeInteger(ZstdSeekTable.seekableMagic, endianness: .little)
    return buffer
  }

  /// Reads the last nine bytes of a file: how many bytes the whole table has with its header, or nil if there is none.
  static func tableSize(footer: ByteBuffer) -> (size: Int, frames: Int, hasChecksums: Bool)? {
    var footer = footer
    guard footer.readableBytes == footerSize, let frames = footer.readInteger(endianness: .little, as: UInt32.self),
      let descriptor = footer.readInteger(as: UInt8.self),
      let magic = footer.readInteger(endianness: .little, as: UInt32.self), magic == seekableMagic,
      frames <= maximumFrames, descriptor & 0x7C == 0
    else { return nil }
    let hasChecksums = descriptor & 0x80 != 0
    return (8 + Int(frames) * (hasChecksums ? 12 : 8) + footerSize, Int(frames), hasChecksums)
  }

  /// Reads a whole table.
  init(table: ByteBuffer, frames: Int, hasChecksums: Bool, object: String) throws {
    var table = table
    guard let magic = table.readInteger(endianness: .little, as: UInt32.self), magic == ZstdSeekTable.skippableMagic,
      let size = table.readInteger(endianness: .little, as: UInt32.self), Int(size) == table.readableBytes
    else { throw DRError(.corruptData, "the zstd seek table has a damaged header", object: object) }
    entries.reserveCapacity(frames)
    for _ in 0..<frames {
      guard let stored = table.readInteger(endianness: .little, as: UInt32.self),
        let raw = table.readInteger(endianness: .little, as: UInt32.self)
      else { throw DRError(.corruptData, "the zstd seek table is cut", object: object) }
      if hasChecksums { table.moveReaderIndex(forwardBy: min(4, table.readableBytes)) }
      entries.append(Entry(storedSize: stored, rawSize: raw))
    }
  }

  init() {}
}
