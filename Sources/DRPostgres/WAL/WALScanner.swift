import DRCore

/// Walks the pages and records of a WAL segment, checking each, to find where the valid log ends.
///
/// Trusts nothing: a length, an address or a checksum that does not fit is where the log ends, as it is for the server
/// (a recycled segment holds an older log's pages behind its end, a partial one holds zeroes). Format: PostgreSQL's
/// `xlog_internal.h`, `xlogrecord.h` and `xlogreader.c`; record checksums are CRC-32C.
public struct WALScanner {
  private let bytes: UnsafeRawBufferPointer
  private let start: LSN
  private let size: Int
  private let newestTimeline: UInt32
  /// Offset in the segment of what is read next.
  private var offset = 0
  private var magic: UInt16 = 0
  private var timeline: UInt32 = 1
  private var result: WALScan
  /// A record that started in the segment before, and one that goes on in the next.
  private var carried: WALUnfinishedRecord?
  private(set) var unfinished: WALUnfinishedRecord?
  /// Transactions that end with a record before this are not taken note of.
  private var firstNoted = LSN(0)
  /// Where the record before starts, once one was read.
  private var previous: LSN?

  /// Scans a segment.
  ///
  /// - Parameters:
  ///   - bytes: The segment from its start; it may end early or in zeroes.
  ///   - name: Which segment this should be. Bytes of another segment hold no valid log at all.
  public static func scan(_ bytes: UnsafeRawBufferPointer, as name: WALSegmentName) -> WALScan {
    scan(bytes, as: name, after: nil).scan
  }

  /// As above, leaving out the transactions that ended before a position: a segment in which a timeline starts also
  /// holds what came before.
  package static func scan(
    _ bytes: UnsafeRawBufferPointer, as name: WALSegmentName, behind position: LSN
  ) -> WALScan {
    var scanner = WALScanner(bytes, name)
    scanner.firstNoted = position
    scanner.run(name)
    return scanner.result
  }

  /// As above, for segments that are scanned one after the other: a record that lies across two is seen too.
  package static func scan(
    _ bytes: UnsafeRawBufferPointer, as name: WALSegmentName, after record: WALUnfinishedRecord?
  ) -> (scan: WALScan, unfinished: WALUnfinishedRecord?) {
    var scanner = WALScanner(bytes, name)
    scanner.carried = record
    scanner.run(name)
    return (scanner.result, scanner.unfinished)
  }

  private init(_ bytes: UnsafeRawBufferPointer, _ name: WALSegmentName) {
    self.bytes = UnsafeRawBufferPointer(rebasing: bytes.prefix(name.segmentSize.bytes))
    start = name.start
    size = name.segmentSize.bytes
    newestTimeline = name.timeline
    result = WALScan(start: name.start, end: name.start, isComplete: false)
  }

  private mutating func run(_ name: WALSegmentName) {
    guard let header = try? WALSegmentHeader(bytes, object: ""), header.start == start,
      header.segmentSize == name.segmentSize
    else { return }
    result.header = header
    magic = header.magic
    let first = WALPageHeader(bytes)
    guard enterPage() else { return }
    if first.info & WALPageHeader.continuation != 0, !skip(Int(first.remaining)) { return }
    while record() {}
  }

  /// Skips the rest of a record that started in an earlier segment. Unless its start is known, its checksum cannot be
  /// verified here.
  private mutating func skip(_ count: Int) -> Bool {
    var remaining = count
    guard remaining > 0 else { return false }
    while true {
      let here = min(remaining, roomOnPage)
      guard offset + here <= bytes.count else { return false }
      carried?.parser.append(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + here]))
      offset += here
      remaining -= here
      if remaining == 0 {
        guard finishRecord() else { return false }
        if let carried, carried.parser.isValid { note(carried.parser, at: carried.start) }
        return true
      }
      switch nextPage(remaining: remaining) {
      case .continued: continue
      case .restarted: return true
      case .segmentEnd:
        result.isComplete = true
        unfinished = carried
        return false
      case .broken: return false
      }
    }
  }

  /// Moves past a record's padding; the valid log ends here at least.
  private mutating func finishRecord() -> Bool {
    offset = (offset + 7) & ~7
    result.end = LSN(start.rawValue + UInt64(offset))
    return true
  }

  /// Reads one record. Returns whether to go on.
  private mutating func record() -> Bool {
    if roomOnPage == 0 || offset == size {
      switch nextPage(remaining: 0) {
      case .continued, .restarted: break
      case .segmentEnd:
        result.isComplete = true
        return false
      case .broken: return false
      }
    }
    let recordStart = LSN(start.rawValue + UInt64(offset))
    guard offset + 4 <= bytes.count else { return false }
    let total = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    guard total >= WALRecordHeader.size else { return false }

    var parser = WALRecordParser(total: total)
    var remaining = total
    while true {
      let here = min(remaining, roomOnPage)
      guard offset + here <= bytes.count else { return false }
      parser.append(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + here]))
      if let header = parser.header, !isPlausible(header, at: recordStart) { return false }
      offset += here
      remaining -= here
      if remaining == 0 { break }
      switch nextPage(remaining: remaining) {
      case .continued: continue
      case .restarted: return true
      case .segmentEnd:
        result.isComplete = true
        unfinished = WALUnfinishedRecord(parser: parser, start: recordStart)
        return false
      case .broken: return false
      }
    }
    guard let header = parser.header, parser.isValid else { return false }
    previous = recordStart
    guard finishRecord() else { return false }
    note(parser, at: recordStart)
    if header.isSwitch {
      // Nothing follows in this segment: the server leaves zeroes and goes on with the next.
      result.end = LSN(start.rawValue + UInt64(size))
      result.isComplete = true
      return false
    }
    return true
  }

  /// Takes note of what a whole, valid record says; the log reaches to its end.
  private mutating func note(_ record: WALRecordParser, at start: LSN) {
    result.lastRecord = start
    if start >= firstNoted, let time = record.transactionTime.map({ PostgresTime.date(microseconds: $0) }) {
      result.lastTransaction = WALScan.Transaction(time: time, end: result.end)
      result.newestTime = max(result.newestTime ?? time, time)
      result.oldestTime = min(result.oldestTime ?? time, time)
    }
    if let name = record.restorePoint { result.restorePoints.append(WALScan.RestorePoint(name: name, start: start)) }
  }

  /// Whether the record can follow the one before. Only the first record of a segment cannot tell.
  private func isPlausible(_ header: WALRecordHeader, at position: LSN) -> Bool {
    if let previous { return header.previous == previous }
    return header.previous < position
  }

  /// Bytes left on the page that `offset` is on; 0 at a page's end, also before its header was read.
  private var roomOnPage: Int {
    let within = offset % WALSegmentHeader.pageSize
    return within == 0 ? 0 : WALSegmentHeader.pageSize - within
  }

  private enum Page {
    case continued
    /// The record was given up by the server; a new one starts on this page.
    case restarted
    case segmentEnd
    case broken
  }

  /// Steps over the header of the page that starts at `offset`, where so many bytes of a record must go on.
  private mutating func nextPage(remaining: Int) -> Page {
    guard offset < size else { return .segmentEnd }
    guard offset + WALSegmentHeader.shortSize <= bytes.count else { return .broken }
    let header = WALPageHeader(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
    guard enterPage() else { return .broken }
    let isContinued = header.info & WALPageHeader.continuation != 0
    if remaining > 0, !isContinued, header.info & WALPageHeader.overwritesContinuation != 0 { return .restarted }
    guard isContinued == (remaining > 0), !isContinued || Int(header.remaining) == remaining else { return .broken }
    return .continued
  }

  /// Checks the page at `offset` and moves behind its header.
  private mutating func enterPage() -> Bool {
    guard offset + WALSegmentHeader.shortSize <= bytes.count else { return false }
    let header = WALPageHeader(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
    guard header.magic == magic, header.info & ~WALPageHeader.allFlags == 0,
      (header.info & WALPageHeader.long != 0) == (offset == 0),
      header.address.rawValue == start.rawValue + UInt64(offset), (timeline...newestTimeline).contains(header.timeline)
    else { return false }
    timeline = header.timeline
    result.timeline = timeline
    offset += header.size
    return true
  }
}
