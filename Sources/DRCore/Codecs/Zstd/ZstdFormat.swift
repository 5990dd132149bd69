import NIOCore

/// A stream of zstd frames (RFC 8878), and of skippable ones.
enum ZstdFormat: FrameFormat {
  static let name = "zstd"
  static let unit = "frame"

  static func start(of input: ByteBuffer, isFirst: Bool, atEnd: Bool) throws -> FrameStart<ZstdBlockWalk> {
    let start = input.readerIndex
    guard let magic = input.getInteger(at: start, endianness: .little, as: UInt32.self) else { return .unclear }
    if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
      guard let size = input.getInteger(at: start + 4, endianness: .little, as: UInt32.self) else { return .unclear }
      return .skipped(8 + Int(size))
    }
    guard magic == ZstdFrameHeader.magic else { return .foreign }
    guard let header = ZstdFrameHeader(input) else { return .unclear }
    if let size = header.contentSize, size <= UInt64(largestWholeFrame) {
      return .whole(ZstdBlockWalk(header), rawSize: Int(size))
    }
    return .stream(try ZstdStreamDecoder())
  }
}
