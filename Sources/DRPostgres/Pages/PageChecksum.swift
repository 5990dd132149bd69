/// PostgreSQL's checksum of a data page.
///
/// The algorithm is PostgreSQL's own (`src/include/storage/checksum_impl.h`): 32 FNV-1a sums side by side over the
/// page as little-endian 32-bit words, with `pd_checksum` (bytes 8 and 9) taken as zero, two rounds of zeroes, folded
/// by XOR with the number of the block, and reduced to 1...65535. Written as four `SIMD8<UInt32>` with local constants
/// because that form compiles to vector code; global constants or one `SIMD32` do not.
package enum PageChecksum {
  /// The size of a page in bytes. Other sizes need a server built for them, and are not supported.
  package static let pageSize = 8192

  /// The checksum of a page.
  ///
  /// - Parameters:
  ///   - page: The 8,192 bytes of the page; any alignment.
  ///   - block: The number of the block within the relation, not within the file:
  ///     ``RelationFileName/firstBlock`` plus the index in the file.
  /// - Returns: 1 to 65,535; or 0, which is never a checksum, if `page` has another length.
  package static func compute(_ page: UnsafeRawBufferPointer, block: UInt32) -> UInt16 {
    guard page.count == pageSize else { return 0 }
    let prime = SIMD8<UInt32>(repeating: 16_777_619)
    var sum0 = SIMD8<UInt32>(
      0x5B1F_36E9, 0xB852_5960, 0x02AB_50AA, 0x1DE6_6D2A, 0x79FF_467A, 0x9BB9_F8A3, 0x217E_7CD2, 0x83E1_3D2C)
    var sum1 = SIMD8<UInt32>(
      0xF8D4_474F, 0xE39E_B970, 0x42C6_AE16, 0x9932_16FA, 0x7B09_3B5D, 0x98DA_FF3C, 0xF718_902A, 0x0B1C_9CDB)
    var sum2 = SIMD8<UInt32>(
      0xE58F_764B, 0x1876_36BC, 0x5D7B_3BB1, 0xE73D_E7DE, 0x92BE_C979, 0xCCA6_C0B2, 0x304A_0979, 0x85AA_43D4)
    var sum3 = SIMD8<UInt32>(
      0x7831_25BB, 0x6CA8_EAA2, 0xE407_EAC6, 0x4B5C_FC3E, 0x9FBF_8C76, 0x15CA_20BE, 0xF2CA_9FD3, 0x959B_D756)

    @inline(__always) func mix(_ sum: inout SIMD8<UInt32>, _ words: SIMD8<UInt32>) {
      let mixed = sum ^ words
      sum = (mixed &* prime) ^ (mixed &>> 17)
    }
    @inline(__always) func words(_ offset: Int) -> SIMD8<UInt32> {
      page.loadUnaligned(fromByteOffset: offset, as: SIMD8<UInt32>.self)
    }

    // pd_checksum is the low half of the third word.
    var first = words(0)
    first[2] &= UInt32(littleEndian: 0xFFFF_0000)
    mix(&sum0, first)
    mix(&sum1, words(32))
    mix(&sum2, words(64))
    mix(&sum3, words(96))
    var offset = 128
    while offset < pageSize {
      mix(&sum0, words(offset))
      mix(&sum1, words(offset &+ 32))
      mix(&sum2, words(offset &+ 64))
      mix(&sum3, words(offset &+ 96))
      offset &+= 128
    }
    for _ in 0..<2 {
      mix(&sum0, .zero)
      mix(&sum1, .zero)
      mix(&sum2, .zero)
      mix(&sum3, .zero)
    }

    let folded = sum0 ^ sum1 ^ sum2 ^ sum3
    var result = block
    for lane in 0..<8 { result ^= folded[lane] }
    return UInt16(truncatingIfNeeded: result % 65535 + 1)
  }
}
