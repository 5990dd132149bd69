package import NIOCore

/// Which of a cluster's 16384 slots a key belongs to: CRC-16 (XMODEM) of the key, or of what stands between its first `{` and
/// the next `}`, if that is anything. Source: "Redis cluster specification".
package enum HashSlot {
  package static let count = 16384

  package static func of(_ key: ByteBuffer) -> Int { key.withUnsafeReadableBytes { of($0) } }

  package static func of(_ key: UnsafeRawBufferPointer) -> Int {
    var part = key[...]
    if let open = key.firstIndex(of: UInt8(ascii: "{")),
      let close = key[(open + 1)...].firstIndex(of: UInt8(ascii: "}")), close > open + 1
    {
      part = key[(open + 1)..<close]
    }
    var crc: UInt16 = 0
    for byte in part { crc = crc << 8 ^ table[Int(crc >> 8 ^ UInt16(byte))] }
    return Int(crc) % count
  }

  private static let table: [UInt16] = (0..<256).map { index in
    (0..<8).reduce(UInt16(index) << 8) { crc, _ in crc & 0x8000 != 0 ? crc << 1 ^ 0x1021 : crc << 1 }
  }
}
