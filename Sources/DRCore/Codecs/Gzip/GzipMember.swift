import CDeflate
import NIOCore

/// A gzip member (RFC 1952) that carries its own size, so that members can be found without decoding them: an extra
/// field `DR` of eight bytes, the size of the whole member and of its raw bytes, both 32-bit little-endian.
struct GzipMemberHeader: Equatable, FrameExtent {
  static let size = 10 + 2 + 4 + 8
  static let trailerSize = 8

  var memberSize: Int
  var rawSize: Int

  /// Reads one of our headers at the reader index; nil for a foreign one or too few bytes.
  init?(_ buffer: ByteBuffer) {
    let start = buffer.readerIndex
    guard buffer.readableBytes >= GzipMemberHeader.size,
      buffer.getInteger(at: start, as: UInt32.self) == 0x1F8B_0804,
      buffer.getInteger(at: start + 10, endianness: .little, as: UInt16.self) == 12,
      buffer.getInteger(at: start + 12, as: UInt16.self) == 0x4452,
      buffer.getInteger(at: start + 14, endianness: .little, as: UInt16.self) == 8,
      let member = buffer.getInteger(at: start + 16, endianness: .little, as: UInt32.self),
      let raw = buffer.getInteger(at: start + 20, endianness: .little, as: UInt32.self)
    else { return nil }
    memberSize = Int(member)
    rawSize = Int(raw)
  }

  func frameSize(in buffer: ByteBuffer, rawSize: Int) throws(FrameDamage) -> Int? { memberSize }

  static func write(memberSize: Int, rawSize: Int, level: Int, to buffer: inout ByteBuffer) {
    buffer.writeInteger(UInt32(0x1F8B_0804))
    buffer.writeInteger(UInt32(0))  // No time: equal content gives equal bytes.
    buffer.writeInteger(UInt8(level >= 9 ? 2 : level <= 1 ? 4 : 0))
    buffer.writeInteger(UInt8(255))  // Unknown operating system, likewise.
    buffer.writeInteger(UInt16(12), endianness: .little)
    buffer.writeInteger(UInt16(0x4452))
    buffer.writeInteger(UInt16(8), endianness: .little)
    buffer.writeInteger(UInt32(clamping: memberSize), endianness: .little)
    buffer.writeInteger(UInt32(clamping: rawSize), endianness: .little)
  }
}

/// Makes one gzip member of each raw frame, with libdeflate.
///
/// `@unchecked Sendable`: the C compressor is used by one task at a time, which the pool of ``OrderedWorkers`` sees to.
final class GzipMemberCompressor: FrameCompressor, @unchecked Sendable {
  private let compressor: OpaquePointer
  private let level: Int
  private var scratch: UnsafeMutableRawBufferPointer

  init(level: Int) throws {
    guard let compressor = libdeflate_alloc_compressor(Int32(level)) else {
      throw DRError(.noSpace, "no memory for a gzip compressor")
    }
    self.compressor = compressor
    self.level = level
    scratch = .allocate(byteCount: 0, alignment: 64)
  }

  deinit {
    libdeflate_free_compressor(compressor)
    scratch.deallocate()
  }

  func compress(_ raw: ByteBuffer) throws -> ByteBuffer {
    try raw.withUnsafeReadableBytes { bytes in
      let bound = libdeflate_deflate_compress_bound(compressor, bytes.count)
      if scratch.count < bound {
        scratch.deallocate()
        scratch = .allocate(byteCount: bound, alignment: 64)
      }
      let size = libdeflate_deflate_compress(
        compressor, bytes.baseAddress, bytes.count, scratch.baseAddress, scratch.count)
      guard size > 0 else { throw DRError(.malformedData, "libdeflate could not compress a frame") }
      let member = GzipMemberHeader.size + size + GzipMemberHeader.trailerSize
      var stored = ByteBufferAllocator().buffer(capacity: member)
      GzipMemberHeader.write(memberSize: member, rawSize: bytes.count, level: level, to: &stored)
      stored.writeBytes(UnsafeRawBufferPointer(rebasing: scratch[..<size]))
      stored.writeInteger(libdeflate_crc32(0, bytes.baseAddress, bytes.count), endianness: .little)
      stored.writeInteger(UInt32(clamping: bytes.count), endianness: .little)
      return stored
    }
  }
}
