/// What one look at a page says about it, after the rules of PostgreSQL's own `PageIsVerified`.
///
/// A page read while the server writes can be torn: read a page that is not ``isGood`` again before it is called
/// damaged.
package enum PageVerdict: Hashable, Sendable {
  /// All zero: allocated and never written.
  case new
  /// As written.
  case ok
  /// The checksum that the page holds is not the checksum of its bytes.
  case checksumMismatch(stored: UInt16, computed: UInt16)
  /// The header cannot be that of a page, or the page claims to be new and is not all zero.
  case malformedHeader

  package var isGood: Bool {
    switch self {
    case .new, .ok: true
    case .checksumMismatch, .malformedHeader: false
    }
  }

  /// Looks at a page.
  ///
  /// - Parameters:
  ///   - page: The 8,192 bytes of the page. Any other length is `malformedHeader`.
  ///   - block: The number of the block within the relation.
  ///   - checksums: Whether the cluster has data checksums. Without, only the header is checked.
  package init(_ page: UnsafeRawBufferPointer, block: UInt32, checksums: Bool = true) {
    guard page.count == PageChecksum.pageSize else {
      self = .malformedHeader
      return
    }
    func half(_ offset: Int) -> UInt16 {
      UInt16(littleEndian: page.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    // pd_upper is 0 only in a page that was never initialised.
    let upper = half(14)
    guard upper != 0 else {
      self = PageVerdict.isZero(page) ? .new : .malformedHeader
      return
    }
    if checksums {
      let stored = half(8)
      let computed = PageChecksum.compute(page, block: block)
      guard stored == computed else {
        self = .checksumMismatch(stored: stored, computed: computed)
        return
      }
    }
    let flags = half(10)
    let lower = half(12)
    let special = half(16)
    let sane =
      flags & ~0x0007 == 0 && lower <= upper && upper <= special && special <= UInt16(PageChecksum.pageSize)
      && special % 8 == 0
    self = sane ? .ok : .malformedHeader
  }

  private static func isZero(_ page: UnsafeRawBufferPointer) -> Bool {
    var seen = SIMD8<UInt64>.zero
    for offset in stride(from: 0, to: PageChecksum.pageSize, by: 64) {
      seen |= page.loadUnaligned(fromByteOffset: offset, as: SIMD8<UInt64>.self)
    }
    return seen == .zero
  }
}
