import NIOCore

/// A frame on its way: what went in, and what comes out.
struct CompressedFrame: Sendable {
  var raw: ByteBuffer
  var stored: ByteBuffer
}

/// Compresses one frame into bytes that a stock tool can read when they follow one another. Used by one task at a time.
protocol FrameCompressor: AnyObject, Sendable {
  func compress(_ raw: ByteBuffer) throws -> ByteBuffer
}

/// Leaves frames as they are.
final class StoredFrameCompressor: FrameCompressor {
  func compress(_ raw: ByteBuffer) throws -> ByteBuffer { raw }
}

extension Compression {
  func makeCompressor(frameSize: Int) throws -> any FrameCompressor {
    switch format {
    case .zstd: try ZstdFrameCompressor(level: level, frameSize: frameSize)
    case .gzip: try GzipMemberCompressor(level: level)
    case .none: StoredFrameCompressor()
    }
  }
}
