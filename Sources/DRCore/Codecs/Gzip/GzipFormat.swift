import NIOCore

/// A stream of gzip members (RFC 1952). Zeroes after the last member are padding, as for `gzip`.
enum GzipFormat: FrameFormat {
  static let name = "gzip"
  static let unit = "member"

  static func start(
    of input: ByteBuffer, isFirst: Bool, atEnd: Bool
  ) throws -> FrameStart<GzipMemberHeader> {
    guard input.readableBytes >= GzipMemberHeader.size || atEnd else { return .unclear }
    guard input.getInteger(at: input.readerIndex, as: UInt16.self) == 0x1F8B else {
      return !isFirst && input.readableBytesView.first == 0 ? .padding : .foreign
    }
    if let header = GzipMemberHeader(input), header.rawSize <= largestWholeFrame,
      header.memberSize <= largestWholeFrame + largestWholeFrame >> 6,
      header.memberSize > GzipMemberHeader.size + GzipMemberHeader.trailerSize
    {
      return .whole(header, rawSize: header.rawSize)
    }
    return .stream(try GzipStreamDecoder())
  }
}
