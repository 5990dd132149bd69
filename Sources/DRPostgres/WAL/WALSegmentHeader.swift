import DRCore

/// The long header on the first page of every WAL segment (`XLogLongPageHeaderData` of PostgreSQL's
/// `src/include/access/xlog_internal.h`), little-endian as on every platform that PostgreSQL is commonly run on.
public struct WALSegmentHeader: Hashable, Sendable {
  /// Bytes of the long header, and of the short one on all other pages.
  static let longSize = 40
  static let shortSize = 24
  /// Bytes of a page, as servers are built.
  static let pageSize = 8192

  /// `XLOG_PAGE_MAGIC`: changes with each major version that changes the log.
  public var magic: UInt16
  /// The timeline of the first record on the page.
  public var timeline: UInt32
  /// The position of the page.
  public var start: LSN
  /// What the cluster calls itself, from `initdb` on.
  public var systemIdentifier: UInt64
  public var segmentSize: WALSegmentSize

  /// Reads the header at the start of a segment.
  ///
  /// - Parameter object: Names the file in errors.
  /// - Throws: ``DRError``: `malformedData` unless the bytes start with a valid long header; `truncatedData` if there
  ///   are fewer than 40.
  public init(_ bytes: UnsafeRawBufferPointer, object: String) throws {
    func refuse(_ why: String) -> DRError {
      DRError(
        .malformedData, "not a WAL segment: \(why)",
        advice: "check that the file is a WAL file of a PostgreSQL server on a little-endian machine", object: object)
    }
    guard bytes.count >= WALSegmentHeader.longSize else {
      throw DRError(.truncatedData, "\(bytes.count) bytes are less than the header of a WAL segment", object: object)
    }
    let page = WALPageHeader(bytes)
    guard page.magic & 0xFF00 == 0xD100 else { throw refuse("its magic number is 0x" + String(page.magic, radix: 16)) }
    guard page.info & WALPageHeader.long != 0, page.info & ~WALPageHeader.allFlags == 0 else {
      throw refuse("it does not start with a long page header")
    }
    guard page.timeline > 0 else { throw refuse("its timeline is 0") }
    let sizes = (
      segment: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 32, as: UInt32.self)),
      page: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 36, as: UInt32.self))
    )
    guard sizes.page == WALSegmentHeader.pageSize else { throw refuse("its pages have \(sizes.page) bytes, not 8,192") }
    guard let size = try? WALSegmentSize(Int(sizes.segment)) else {
      throw refuse("it claims segments of \(sizes.segment) bytes")
    }
    guard page.address.rawValue % UInt64(size.bytes) == 0 else { throw refuse("its position is not that of a segment") }
    magic = page.magic
    timeline = page.timeline
    start = page.address
    systemIdentifier = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
    segmentSize = size
  }
}

/// The header that every WAL page starts with (`XLogPageHeaderData`). At least 24 bytes must be given.
struct WALPageHeader {
  /// The page starts with the rest of a record from the page before.
  static let continuation: UInt16 = 0x0001
  static let long: UInt16 = 0x0002
  /// The record that the page before broke off was given up; this page starts with a new one.
  static let overwritesContinuation: UInt16 = 0x0008
  static let allFlags: UInt16 = 0x000F

  let magic: UInt16
  let info: UInt16
  let timeline: UInt32
  let address: LSN
  /// Bytes of the continued record that are on this page and those after it.
  let remaining: UInt32

  init(_ bytes: UnsafeRawBufferPointer) {
    magic = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt16.self))
    info = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
    timeline = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
    address = LSN(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    remaining = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
  }

  /// Bytes of the header.
  var size: Int { info & WALPageHeader.long != 0 ? WALSegmentHeader.longSize : WALSegmentHeader.shortSize }
}
