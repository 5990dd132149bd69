import CDeflate
import CZlib
import NIOCore

/// Decodes our gzip members as a whole, with libdeflate. Used by one task at a time (`@unchecked Sendable`).
final class GzipMemberDecoder: FrameDecoder, @unchecked Sendable {
  private let decompressor: OpaquePointer

  init() throws {
    guard let decompressor = libdeflate_alloc_decompressor() else {
      throw DRError(.noSpace, "no memory for a gzip decoder")
    }
    self.decompressor = decompressor
  }

  deinit { libdeflate_free_decompressor(decompressor) }

  func decode(_ frame: ByteBuffer, rawSize: Int) throws(FrameDamage) -> ByteBuffer {
    var raw = ByteBufferAllocator().buffer(capacity: max(rawSize, 1))
    var result = LIBDEFLATE_BAD_DATA
    var used = 0
    raw.writeWithUnsafeMutableBytes(minimumWritableBytes: rawSize) { target in
      frame.withUnsafeReadableBytes { source in
        var written = 0
        result = libdeflate_gzip_decompress_ex(
          decompressor, source.baseAddress, source.count, target.baseAddress, rawSize, &used, &written)
        return result == LIBDEFLATE_SUCCESS ? min(written, rawSize) : 0
      }
    }
    guard result == LIBDEFLATE_SUCCESS, raw.readableBytes == rawSize, used == frame.readableBytes else {
      throw FrameDamage("gzip cannot decode it, or its checksum differs")
    }
    return raw
  }
}

/// Decodes one gzip member of any size and any maker, piece by piece, with zlib.
///
/// `@unchecked Sendable`: belongs to one splitter, which has one caller.
final class GzipStreamDecoder: FrameStreamDecoder, @unchecked Sendable {
  private var stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

  init() throws {
    stream.initialize(to: z_stream())
    // 15 is the largest window; 16 asks for the gzip wrapper, whose CRC-32 and size zlib then checks.
    let result = inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    guard result == Z_OK else {
      stream.deallocate()
      throw DRError(.noSpace, "no memory for a gzip decoder")
    }
  }

  deinit {
    inflateEnd(stream)
    stream.deallocate()
  }

  func step(_ input: ByteBuffer) throws(FrameDamage) -> FrameStep {
    let room = 1 << 20
    var output = ByteBufferAllocator().buffer(capacity: room)
    var consumed = 0
    var result = Z_OK
    output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { target in
      input.withUnsafeReadableBytes { source in
        let count = min(source.count, 1 << 30)
        stream.pointee.next_in = UnsafeMutablePointer(
          mutating: source.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.pointee.avail_in = UInt32(count)
        stream.pointee.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = UInt32(room)
        result = inflate(stream, Z_NO_FLUSH)
        consumed = count - Int(stream.pointee.avail_in)
        stream.pointee.next_in = nil
        stream.pointee.avail_in = 0
        return room - Int(stream.pointee.avail_out)
      }
    }
    // Z_BUF_ERROR only says that it wants more input.
    guard result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR else {
      throw FrameDamage(
        result == Z_DATA_ERROR ? "its bytes are no gzip data, or its checksum differs" : "zlib error \(result)")
    }
    return FrameStep(consumed: consumed, output: output, frameEnded: result == Z_STREAM_END)
  }
}
