import DRPostgres
import DRTestSupport
import Testing

@Suite struct PageVerdictTests {
  /// An empty page with a right checksum.
  private func page(block: UInt32, fill: UInt8 = 0) -> [UInt8] {
    var page = [UInt8](repeating: fill, count: 8192)
    page.replaceSubrange(0..<24, with: [UInt8](repeating: 0, count: 24))
    func put(_ value: UInt16, _ offset: Int) {
      page[offset] = UInt8(value & 0xFF)
      page[offset + 1] = UInt8(value >> 8)
    }
    put(24, 12)
    put(8192, 14)
    put(8192, 16)
    put(8192 | 4, 18)
    put(page.withUnsafeBytes { PageChecksum.compute($0, block: block) }, 8)
    return page
  }

  private func verdict(_ page: [UInt8], block: UInt32, checksums: Bool = true) -> PageVerdict {
    page.withUnsafeBytes { PageVerdict($0, block: block, checksums: checksums) }
  }

  /// The algorithm as its definition reads, one word at a time.
  private func reference(_ page: [UInt8], block: UInt32) -> UInt16 {
    let offsets: [UInt32] = [
      0x5B1F_36E9, 0xB852_5960, 0x02AB_50AA, 0x1DE6_6D2A, 0x79FF_467A, 0x9BB9_F8A3, 0x217E_7CD2, 0x83E1_3D2C,
      0xF8D4_474F, 0xE39E_B970, 0x42C6_AE16, 0x9932_16FA, 0x7B09_3B5D, 0x98DA_FF3C, 0xF718_902A, 0x0B1C_9CDB,
      0xE58F_764B, 0x1876_36BC, 0x5D7B_3BB1, 0xE73D_E7DE, 0x92BE_C979, 0xCCA6_C0B2, 0x304A_0979, 0x85AA_43D4,
      0x7831_25BB, 0x6CA8_EAA2, 0xE407_EAC6, 0x4B5C_FC3E, 0x9FBF_8C76, 0x15CA_20BE, 0xF2CA_9FD3, 0x959B_D756,
    ]
    var bytes = page
    bytes[8] = 0
    bytes[9] = 0
    var sums = offsets
    for word in 0..<(2048 + 64) {
      var value: UInt32 = 0
      if word < 2048 { for byte in (0..<4).reversed() { value = value << 8 | UInt32(bytes[word * 4 + byte]) } }
      let mixed = sums[word % 32] ^ value
      sums[word % 32] = (mixed &* 16_777_619) ^ (mixed >> 17)
    }
    return UInt16(sums.reduce(block, ^) % 65535 + 1)
  }

  @Test func checksumIsTheAlgorithm() {
    var random = TestData.Random(seed: 5)
    for _ in 0..<200 {
      let page = (0..<8192).map { _ in UInt8.random(in: 0...255, using: &random) }
      let block = UInt32.random(in: 0 ... .max, using: &random)
      #expect(page.withUnsafeBytes { PageChecksum.compute($0, block: block) } == reference(page, block: block))
      // At an odd address too.
      let shifted = [0] + page
      #expect(
        shifted.withUnsafeBytes { PageChecksum.compute(UnsafeRawBufferPointer(rebasing: $0[1...]), block: block) }
          == reference(page, block: block))
    }
  }

  @Test func flippedBitsAreSeen() {
    let good = page(block: 131_072 * 3 + 7, fill: 0xA5)
    #expect(verdict(good, block: 131_072 * 3 + 7) == .ok)
    var missed = 0
    for bit in 0..<(8192 * 8) {
      var bad = good
      bad[bit / 8] ^= UInt8(1 << (bit % 8))
      if verdict(bad, block: 131_072 * 3 + 7).isGood { missed += 1 }
    }
    // 16 bits of checksum let about one in 65,535 pass, and there are 65,536 here.
    #expect(missed <= 4)
  }

  @Test func aPageOfAnotherBlockIsSeen() {
    let good = page(block: 1)
    guard case .checksumMismatch = verdict(good, block: 2) else {
      Issue.record("a page in the wrong place passed")
      return
    }
  }

  @Test func newPagesAreAllZero() {
    var page = [UInt8](repeating: 0, count: 8192)
    #expect(verdict(page, block: 9) == .new)
    for offset in [0, 8, 23, 24, 4000, 8191] {
      page[offset] = 1
      #expect(verdict(page, block: 9) == .malformedHeader)
      page[offset] = 0
    }
  }

  @Test func headersAreChecked() {
    let good = page(block: 4)
    // flags, pd_lower, pd_upper, pd_special that cannot be.
    for (offset, value) in [(10, 0x08), (11, 0x01), (13, 0x30), (15, 0x30), (17, 0x21), (16, 0x04)] {
      var bad = good
      bad[offset] = UInt8(value)
      #expect(verdict(bad, block: 4, checksums: false) == .malformedHeader, "offset \(offset)")
      let checksum = bad.withUnsafeBytes { PageChecksum.compute($0, block: 4) }
      bad[8] = UInt8(checksum & 0xFF)
      bad[9] = UInt8(checksum >> 8)
      #expect(verdict(bad, block: 4) == .malformedHeader, "offset \(offset)")
    }
    #expect(verdict(Array(good.dropLast()), block: 4) == .malformedHeader)
    var unchecked = good
    unchecked[8] = 0
    unchecked[9] = 0
    #expect(verdict(unchecked, block: 4, checksums: false) == .ok)
  }

  @Test func crc32cMatchesItsCheckValue() {
    let digits = [UInt8]("123456789".utf8)
    #expect(digits.withUnsafeBytes { CRC32C.of($0) } == 0xE306_9283)
    var random = TestData.Random(seed: 6)
    let bytes = (0..<1000).map { _ in UInt8.random(in: 0...255, using: &random) }
    let whole = bytes.withUnsafeBytes { CRC32C.of($0) }
    for cut in 0...bytes.count {
      var crc = CRC32C()
      bytes.withUnsafeBytes {
        crc.update(UnsafeRawBufferPointer(rebasing: $0[..<cut]))
        crc.update(UnsafeRawBufferPointer(rebasing: $0[cut...]))
      }
      #expect(crc.value == whole)
    }
  }
}
