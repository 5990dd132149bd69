import DRCore

/// The name of a WAL segment, `00000001000000A2000000FF`: timeline, then the number of the segment in two parts.
public struct WALSegmentName: Hashable, Sendable, CustomStringConvertible {
  public let timeline: UInt32
  /// Counted from the start of the log in segments of the cluster's size.
  public let number: UInt64
  public let segmentSize: WALSegmentSize

  public init(timeline: UInt32, number: UInt64, segmentSize: WALSegmentSize) {
    self.timeline = timeline
    // Positions are 64 bits wide, and so is the last segment's end.
    self.number = min(number, UInt64.max / UInt64(segmentSize.bytes))
    self.segmentSize = segmentSize
  }

  /// The segment that holds a position.
  public init(timeline: UInt32, holding position: LSN, segmentSize: WALSegmentSize) {
    self.init(timeline: timeline, number: segmentSize.segment(holding: position), segmentSize: segmentSize)
  }

  /// Reads 24 upper-case hexadecimal digits.
  ///
  /// - Throws: ``DRError`` with `malformedData`, also for a name that a cluster with this segment size never uses.
  public init(parsing text: some StringProtocol, segmentSize: WALSegmentSize) throws {
    func refuse() -> DRError {
      DRError(
        .malformedData,
        "\(String(text.prefix(64)).debugDescription) is not the name of a WAL segment of \(segmentSize)")
    }
    guard let parts = WALSegmentName.split(text) else { throw refuse() }
    guard parts.timeline > 0, UInt64(parts.low) < segmentSize.segmentsPerLog else { throw refuse() }
    timeline = parts.timeline
    number = UInt64(parts.high) * segmentSize.segmentsPerLog + UInt64(parts.low)
    self.segmentSize = segmentSize
  }

  /// The first position in the segment.
  public var start: LSN { LSN(number * UInt64(segmentSize.bytes)) }
  /// The first position after the segment.
  public var end: LSN { start.advanced(by: UInt64(segmentSize.bytes)) }
  /// The segment after this one on the same timeline.
  public var next: WALSegmentName { WALSegmentName(timeline: timeline, number: number + 1, segmentSize: segmentSize) }

  public var description: String {
    hex8(timeline) + hex8(UInt32(truncatingIfNeeded: number / segmentSize.segmentsPerLog))
      + hex8(UInt32(truncatingIfNeeded: number % segmentSize.segmentsPerLog))
  }

  /// The three numbers of 24 upper-case hexadecimal digits; nil for all else.
  static func split(_ text: some StringProtocol) -> (timeline: UInt32, high: UInt32, low: UInt32)? {
    guard text.utf8.count == 24, isUpperHex(text) else { return nil }
    let digits = Array(text.utf8)
    func part(_ range: Range<Int>) -> UInt32 {
      digits[range].reduce(0) { $0 << 4 | UInt32(HexDigit.value($1) ?? 0) }
    }
    return (part(0..<8), part(8..<16), part(16..<24))
  }
}

/// The name of a file that PostgreSQL archives.
public enum WALFileName: Hashable, Sendable, CustomStringConvertible {
  /// A whole segment.
  case segment(WALSegmentName)
  /// A segment that ends early: made by a server at promotion, or by a receiver.
  case partial(WALSegmentName)
  /// The record of a base backup, `<segment>.<offset>.backup`.
  case backupLabel(WALSegmentName, offset: UInt32)
  /// The history of a timeline, `00000002.history`.
  case history(timeline: UInt32)

  /// Reads a file name.
  ///
  /// - Throws: ``DRError`` with `malformedData` for anything that PostgreSQL does not archive.
  public init(parsing text: some StringProtocol, segmentSize: WALSegmentSize) throws {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    let first = parts[0]
    switch (parts.count, parts[parts.count - 1]) {
    case (1, _):
      self = .segment(try WALSegmentName(parsing: first, segmentSize: segmentSize))
      return
    case (2, "partial"):
      self = .partial(try WALSegmentName(parsing: first, segmentSize: segmentSize))
      return
    case (2, "history"):
      if first.utf8.count == 8, isUpperHex(first), let timeline = UInt32(first, radix: 16), timeline > 0 {
        self = .history(timeline: timeline)
        return
      }
    case (3, "backup"):
      if parts[1].utf8.count == 8, isUpperHex(parts[1]), let offset = UInt32(parts[1], radix: 16) {
        self = .backupLabel(try WALSegmentName(parsing: first, segmentSize: segmentSize), offset: offset)
        return
      }
    default:
      break
    }
    throw DRError(
      .malformedData, "\(String(text.prefix(64)).debugDescription) is not the name of a file that PostgreSQL archives")
  }

  public var description: String {
    switch self {
    case .segment(let name): name.description
    case .partial(let name): "\(name).partial"
    case .backupLabel(let name, let offset): "\(name).\(hex8(offset)).backup"
    case .history(let timeline): "\(hex8(timeline)).history"
    }
  }
}

/// Eight upper-case hexadecimal digits.
func hex8(_ value: UInt32) -> String {
  let digits = String(value, radix: 16, uppercase: true)
  return String(repeating: "0", count: 8 - digits.count) + digits
}

private func isUpperHex(_ text: some StringProtocol) -> Bool {
  text.utf8.allSatisfy { byte in
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte)
  }
}
