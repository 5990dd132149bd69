/// The fixed start of a WAL record (`XLogRecord` of PostgreSQL's `src/include/access/xlogrecord.h`).
struct WALRecordHeader {
  static let size = 24

  let total: Int
  let previous: LSN
  let info: UInt8
  let resourceManager: UInt8
  let checksum: UInt32

  init(_ bytes: UnsafeRawBufferPointer) {
    total = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt32.self)))
    previous = LSN(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    info = bytes[16]
    resourceManager = bytes[17]
    checksum = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 20, as: UInt32.self))
  }

  /// XLOG_SWITCH of resource manager XLOG.
  var isSwitch: Bool { resourceManager == 0 && info & 0xF0 == 0x40 }

  /// XLOG_RESTORE_POINT of resource manager XLOG.
  var isRestorePoint: Bool { resourceManager == 0 && info & 0xF0 == 0x70 }

  /// Commit, abort, and the same of a prepared transaction, of resource manager XACT.
  var endsTransaction: Bool { resourceManager == 1 && [0x00, 0x20, 0x30, 0x40].contains(info & 0x70) }
}

/// Takes a record in pieces, as pages cut it; keeps its start, and its checksum.
struct WALRecordParser {
  /// As much of a record as is kept: the header, all block headers that a transaction's end has (origin 3, top-level
  /// transaction 5, main data 5), and the start of its main data: a time, which a restore point's name follows
  /// (`xl_restore_point`, 64 bytes with its NUL).
  private static let kept = WALRecordHeader.size + 3 + 5 + 5 + 8 + 64

  private let total: Int
  private var start: [UInt8] = []
  private var crc = CRC32C()
  private var seen = 0

  init(total: Int) {
    self.total = total
    start.reserveCapacity(WALRecordParser.kept)
  }

  /// The header, once it was seen whole.
  private(set) var header: WALRecordHeader?

  mutating func append(_ piece: UnsafeRawBufferPointer) {
    if start.count < WALRecordParser.kept { start += piece.prefix(WALRecordParser.kept - start.count) }
    if header == nil, start.count >= WALRecordHeader.size { header = start.withUnsafeBytes { WALRecordHeader($0) } }
    // The checksum covers the body, and then the header up to the checksum itself.
    let body = max(0, WALRecordHeader.size - seen)
    if piece.count > body { crc.update(UnsafeRawBufferPointer(rebasing: piece[body...])) }
    seen += piece.count
  }

  /// Whether the record is whole and its checksum fits.
  var isValid: Bool {
    guard let header, seen == total else { return false }
    var whole = crc
    start.withUnsafeBytes { whole.update(UnsafeRawBufferPointer(rebasing: $0[0..<20])) }
    return whole.value == header.checksum
  }

  /// When the transaction that this record ends did so, in microseconds since 2000; nil for other records.
  var transactionTime: Int64? {
    guard let header, header.endsTransaction, let data = mainData(8) else { return nil }
    return data.withUnsafeBytes { Int64(littleEndian: $0.loadUnaligned(as: Int64.self)) }
  }

  /// What the restore point is called that this record sets; nil for other records.
  var restorePoint: String? {
    guard let header, header.isRestorePoint, let data = mainData(8 + 64) else { return nil }
    return String(decoding: data.dropFirst(8).prefix { $0 != 0 }, as: UTF8.self)
  }

  /// So many bytes of a record's main data, which comes after the headers; nil if there are fewer.
  private func mainData(_ count: Int) -> ArraySlice<UInt8>? {
    var offset = WALRecordHeader.size
    while offset < start.count {
      // Block references have ids up to 32; the records that are looked at here have none.
      let mainData: Int
      switch start[offset] {
      case 253:
        offset += 3
        continue
      case 252:
        offset += 5
        continue
      case 255: mainData = offset + 2
      case 254: mainData = offset + 5
      default: return nil
      }
      guard mainData + count <= min(start.count, total) else { return nil }
      return start[mainData..<mainData + count]
    }
    return nil
  }
}

/// A record whose end lies in the next segment.
package struct WALUnfinishedRecord {
  var parser: WALRecordParser
  var start: LSN
}
