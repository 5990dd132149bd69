package import NIOCore

/// What `DUMP` gives and `RESTORE` takes: the type, the value as an RDB file has it, the version of the format (2 bytes),
/// CRC64 of all that (8 bytes), both little-endian. `FUNCTION RESTORE` takes the same of function libraries.
package enum DumpPayload {
  /// Bytes besides the value.
  package static let overhead = 11

  /// The first version of the format that has a type: a server takes no payload of a later version than its own, also
  /// if it knows the type.
  package static func version(of type: RDBType) -> UInt16 {
    switch type {
    case .setListpack, .stream3: 11
    case .hashMetadataPreview, .hashListpackExpiryPreview, .hashMetadata, .hashListpackExpiry: 12
    case .hashListpack, .sortedSetListpack, .listQuicklist2, .stream2: 10
    default: 9
    }
  }

  /// Writes the payload of a value.
  package static func write(_ value: ByteBuffer, type: RDBType, into buffer: inout ByteBuffer) {
    let start = buffer.writerIndex
    buffer.writeInteger(type.rawValue)
    buffer.writeImmutableBuffer(value)
    close(from: start, version: version(of: type), &buffer)
  }

  /// The payload of function libraries, each a string as the file has it.
  package static func functions(_ libraries: [ByteBuffer]) -> ByteBuffer {
    var buffer = ByteBuffer()
    for library in libraries {
      buffer.writeInteger(RDBOpcode.function2)
      buffer.writeImmutableBuffer(library)
    }
    close(from: 0, version: 10, &buffer)
    return buffer
  }

  private static func close(from start: Int, version: UInt16, _ buffer: inout ByteBuffer) {
    buffer.writeInteger(version, endianness: .little)
    let end = buffer.writerIndex
    let offset = start - buffer.readerIndex
    let crc = buffer.withUnsafeReadableBytes {
      CRC64.of(UnsafeRawBufferPointer(rebasing: $0[offset..<offset + end - start]))
    }
    buffer.writeInteger(crc, endianness: .little)
  }
}
