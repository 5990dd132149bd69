import NIOCore

/// Why a frame cannot be decoded; the caller knows which frame, and where.
struct FrameDamage: Error {
  var reason: String

  init(_ reason: String) { self.reason = reason }
}

/// Decodes one whole frame. Used by one task at a time.
protocol FrameDecoder: AnyObject, Sendable {
  /// - Throws: ``FrameDamage`` if the frame's own checksum differs, or it cannot be decoded to exactly `rawSize` bytes.
  func decode(_ frame: ByteBuffer, rawSize: Int) throws(FrameDamage) -> ByteBuffer
}

extension Compression.Format {
  func makeDecoder() throws -> any FrameDecoder {
    switch self {
    case .zstd: try ZstdFrameDecoder()
    case .gzip: try GzipMemberDecoder()
    case .none: StoredFrameDecoder()
    }
  }

  func makeSplitter(object: String, origin: FrameOrigin) -> any FrameSplitter {
    switch self {
    case .zstd: FormatSplitter<ZstdFormat>(object: object, origin: origin)
    case .gzip: FormatSplitter<GzipFormat>(object: object, origin: origin)
    case .none: StoredSplitter()
    }
  }
}

/// Never asked: what is not compressed has no frames.
private final class StoredFrameDecoder: FrameDecoder {
  func decode(_ frame: ByteBuffer, rawSize: Int) throws(FrameDamage) -> ByteBuffer { frame }
}
