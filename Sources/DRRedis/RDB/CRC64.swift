/// CRC-64 as Redis has it ("Jones"): the last 8 bytes of an RDB file and of a DUMP payload.
///
/// Polynomial 0xad93d23594c935a9, reflected in and out, nothing in, nothing out; the check value of `123456789` is
/// 0xe9c6d914c4b8d9ca. Sliced by 16: sixteen table look-ups that do not wait for one another for each 16 bytes.
package struct CRC64: Sendable {
  /// The checksum of all bytes so far.
  package private(set) var value: UInt64 = 0

  package init() {}

  /// The checksum of some bytes.
  package static func of(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var crc = CRC64()
    crc.update(bytes)
    return crc.value
  }

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    value = CRC64.tables.withUnsafeBufferPointer { table in
      var crc = value
      var offset = 0
      while bytes.count &- offset >= 16 {
        let low = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) ^ crc
        let high = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset &+ 8, as: UInt64.self))
        let first =
          table[3840 &+ Int(low & 0xFF)] ^ table[3584 &+ Int((low &>> 8) & 0xFF)]
          ^ table[3328 &+ Int((low &>> 16) & 0xFF)] ^ table[3072 &+ Int((low &>> 24) & 0xFF)]
        let second =
          table[2816 &+ Int((low &>> 32) & 0xFF)] ^ table[2560 &+ Int((low &>> 40) & 0xFF)]
          ^ table[2304 &+ Int((low &>> 48) & 0xFF)] ^ table[2048 &+ Int(low &>> 56)]
        let third =
          table[1792 &+ Int(high & 0xFF)] ^ table[1536 &+ Int((high &>> 8) & 0xFF)]
          ^ table[1280 &+ Int((high &>> 16) & 0xFF)] ^ table[1024 &+ Int((high &>> 24) & 0xFF)]
        let fourth =
          table[768 &+ Int((high &>> 32) & 0xFF)] ^ table[512 &+ Int((high &>> 40) & 0xFF)]
          ^ table[256 &+ Int((high &>> 48) & 0xFF)] ^ table[Int(high &>> 56)]
        crc = (first ^ second) ^ (third ^ fourth)
        offset &+= 16
      }
      while offset < bytes.count {
        crc = table[Int((crc ^ UInt64(bytes[offset])) & 0xFF)] ^ (crc &>> 8)
        offset &+= 1
      }
      return crc
    }
  }

  /// Sixteen tables of 256, one after another.
  private static let tables: [UInt64] = {
    var tables = [UInt64](repeating: 0, count: 4096)
    for index in 0..<256 {
      var crc = UInt64(index)
      for _ in 0..<8 { crc = crc & 1 == 1 ? 0x95AC_9329_AC4B_C9B5 ^ (crc >> 1) : crc >> 1 }
      tables[index] = crc
    }
    for index in 256..<4096 {
      let crc = tables[index - 256]
      tables[index] = tables[Int(crc & 0xFF)] ^ (crc >> 8)
    }
    return tables
  }()
}
