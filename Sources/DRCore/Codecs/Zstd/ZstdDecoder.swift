import CZstd
import NIOCore

/// Decodes whole zstd frames. Used by one task at a time (`@unchecked Sendable`, as ``ZstdFrameCompressor``).
final class ZstdFrameDecoder: FrameDecoder, @unchecked Sendable {
  private let context: OpaquePointer

  init() throws {
    guard let context = ZSTD_createDCtx() else { throw DRError(.noSpace, "no memory for a zstd decoder") }
    self.context = context
  }

  deinit { ZSTD_freeDCtx(context) }

  func decode(_ frame: ByteBuffer, rawSize: Int) throws(FrameDamage) -> ByteBuffer {
    var raw = ByteBufferAllocator().buffer(capacity: max(rawSize, 1))
    let size = raw.writeWithUnsafeMutableBytes(minimumWritableBytes: rawSize) { target in
      let size = frame.withUnsafeReadableBytes { source in
        ZSTD_decompressDCtx(context, target.baseAddress, rawSize, source.baseAddress, source.count)
      }
      return ZSTD_isError(size) == 0 ? min(size, rawSize) : 0
    }
    guard size == rawSize else { throw FrameDamage("zstd cannot decode it, or its checksum differs") }
    return raw
  }
}

/// Decodes one zstd frame of any size, piece by piece.
///
/// `@unchecked Sendable`: belongs to one splitter, which has one caller.
final class ZstdStreamDecoder: FrameStreamDecoder, @unchecked Sendable {
  private let context: OpaquePointer

  init() throws {
    guard let context = ZSTD_createDCtx() else { throw DRError(.noSpace, "no memory for a zstd decoder") }
    self.context = context
  }

  deinit { ZSTD_freeDCtx(context) }

  func step(_ input: ByteBuffer) throws(FrameDamage) -> FrameStep {
    let room = 1 << 20
    var output = ByteBufferAllocator().buffer(capacity: room)
    var consumed = 0
    var ended = false
    var failure: FrameDamage?
    output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { target in
      input.withUnsafeReadableBytes { source in
        var into = ZSTD_outBuffer(dst: target.baseAddress, size: room, pos: 0)
        var from = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
        repeat {
          let before = (from.pos, into.pos)
          let result = ZSTD_decompressStream(context, &into, &from)
          if ZSTD_isError(result) != 0 {
            failure = FrameDamage(String(cString: ZSTD_getErrorName(result)))
            break
          }
          ended = result == 0
          if (from.pos, into.pos) == before { break }
        } while !ended && from.pos < from.size && into.pos < into.size
        consumed = from.pos
        return into.pos
      }
    }
    if let failure { throw failure }
    return FrameStep(consumed: consumed, output: output, frameEnded: ended)
  }
}
