import NIOCore

/// What a splitter finds in a compressed stream.
enum SplitPiece: Sendable {
  /// A whole frame or member that can be decoded by itself, with its number and its offset in the compressed stream.
  case frame(ByteBuffer, rawSize: Int, index: Int, offset: Int64)
  /// Bytes that are decoded already.
  case raw(ByteBuffer)
}

/// Cuts a compressed stream into pieces. Pure: bytes in, pieces out.
///
/// A frame of a size that it states and that fits into memory comes out whole, to be decoded by a worker. Any other
/// (of a stock tool that writes one frame for everything) is decoded here, piece by piece.
protocol FrameSplitter: Sendable {
  /// Takes more bytes. Once there are no more, ``next(atEnd:)`` is asked with true.
  mutating func feed(_ buffer: ByteBuffer)
  /// The next piece; nil when more bytes are needed, or at the end when nothing is left.
  ///
  /// - Throws: ``DRError``: `malformedData`, `corruptData`, `truncatedData`, with the frame and its offset.
  mutating func next(atEnd: Bool) throws -> SplitPiece?
}

/// Where in a compressed stream a splitter starts.
struct FrameOrigin: Equatable {
  var index = 0
  var offset: Int64 = 0
}

/// The largest frame, raw, that is decoded as a whole.
let largestWholeFrame = 16 << 20

/// Bytes that arrived and were not used yet, with their place in the stream.
struct SplitInput: Sendable {
  private(set) var buffer = ByteBuffer()
  /// Where the reader index of the buffer lies in the stream.
  private(set) var offset: Int64

  init(offset: Int64) { self.offset = offset }

  mutating func feed(_ more: ByteBuffer) {
    if buffer.readableBytes == 0 {
      buffer = more
    } else {
      buffer.discardReadBytes()
      buffer.writeImmutableBuffer(more)
    }
  }

  mutating func take(_ count: Int) -> ByteBuffer {
    let slice = buffer.readSlice(length: min(count, buffer.readableBytes)) ?? ByteBuffer()
    offset += Int64(slice.readableBytes)
    return slice
  }

  mutating func skip(_ count: Int) {
    let count = min(count, buffer.readableBytes)
    buffer.moveReaderIndex(forwardBy: count)
    offset += Int64(count)
  }
}

/// Splits a stream that is not compressed: every buffer is raw already.
struct StoredSplitter: FrameSplitter {
  private var waiting: ByteBuffer?

  mutating func feed(_ buffer: ByteBuffer) { waiting = buffer }

  mutating func next(atEnd: Bool) throws -> SplitPiece? {
    guard let buffer = waiting, buffer.readableBytes > 0 else { return nil }
    waiting = nil
    return .raw(buffer)
  }
}
