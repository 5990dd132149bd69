import NIOCore

/// The header of a zstd frame (RFC 8878, section 3.1.1), and where the frame ends.
struct ZstdFrameHeader: Equatable {
  static let magic: UInt32 = 0xFD2F_B528
  /// Magic, descriptor, window, dictionary, content size.
  static let maximumSize = 4 + 1 + 1 + 4 + 8

  var size: Int
  var contentSize: UInt64?
  var hasChecksum: Bool

  /// Reads a header that starts at the buffer's reader index, or nil if more bytes are needed.
  init?(_ buffer: ByteBuffer) {
    let start = buffer.readerIndex
    guard let descriptor = buffer.getInteger(at: start + 4, as: UInt8.self) else { return nil }
    let singleSegment = descriptor & 0x20 != 0
    let dictionary = [0, 1, 2, 4][Int(descriptor & 3)]
    let sizeField = [singleSegment ? 1 : 0, 2, 4, 8][Int(descriptor >> 6)]
    let position = start + 5 + (singleSegment ? 0 : 1) + dictionary
    size = position + sizeField - start
    guard buffer.readableBytes >= size else { return nil }
    hasChecksum = descriptor & 4 != 0
    switch sizeField {
    case 1: contentSize = buffer.getInteger(at: position, as: UInt8.self).map(UInt64.init)
    case 2: contentSize = buffer.getInteger(at: position, endianness: .little, as: UInt16.self).map { UInt64($0) + 256 }
    case 4: contentSize = buffer.getInteger(at: position, endianness: .little, as: UInt32.self).map(UInt64.init)
    case 8: contentSize = buffer.getInteger(at: position, endianness: .little, as: UInt64.self)
    default: contentSize = nil
    }
  }
}

/// Walks the blocks of a frame to find its end, as bytes arrive.
struct ZstdBlockWalk: FrameExtent {
  /// Bytes from the start of the frame to the next block header, or to the end once it is known.
  private(set) var offset: Int
  private var lastSeen = false
  private let checksumSize: Int

  init(_ header: ZstdFrameHeader) {
    offset = header.size
    checksumSize = header.hasChecksum ? 4 : 0
  }

  mutating func frameSize(in buffer: ByteBuffer, rawSize: Int) throws(FrameDamage) -> Int? {
    while !lastSeen {
      let start = buffer.readerIndex + offset
      guard buffer.writerIndex >= start + 3,
        let low = buffer.getInteger(at: start, endianness: .little, as: UInt16.self),
        let high = buffer.getInteger(at: start + 2, as: UInt8.self)
      else { return nil }
      let block = UInt32(low) | UInt32(high) << 16
      let type = block >> 1 & 3
      guard type != 3 else { throw FrameDamage("a zstd block of a type that does not exist") }
      offset += 3 + (type == 1 ? 1 : Int(block >> 3))
      lastSeen = block & 1 == 1
      if lastSeen { offset += checksumSize }
      // A frame that stores its bytes as they are is larger than them by a little for each block of 128 KiB.
      guard offset <= rawSize + rawSize >> 7 + 1024 else {
        throw FrameDamage("its blocks are larger than the content that it states")
      }
    }
    return offset
  }
}
