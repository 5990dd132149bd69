import DRPostgres
import DRTestSupport
import Foundation
import Testing

/// Segments made by hand, so that every cut and flip can be tried; real ones are scanned by the tests of the receiver.
@Suite struct WALScannerTests {
  private let size: WALSegmentSize
  private let identifier: UInt64 = 7_711_218_635_073_153_028

  init() throws { size = try WALSegmentSize(1 << 20) }

  private func scan(_ bytes: [UInt8], number: UInt64 = 3, timeline: UInt32 = 1) -> WALScan {
    let name = WALSegmentName(timeline: timeline, number: number, segmentSize: size)
    return bytes.withUnsafeBytes { WALScanner.scan($0, as: name) }
  }

  @Test func findsTheEnd() throws {
    var writer = WALWriter(size: size, number: 3, identifier: identifier)
    var ends: [Int] = []
    for length in [0, 1, 100, 8000, 20_000, 7, 300_000] {
      writer.record(payload: length)
      ends.append(writer.offset)
    }
    let commit = writer.commit(microseconds: 848_723_201_428_614)
    let whole = writer.padded
    let scan = scan(whole)
    #expect(scan.end == commit && !scan.isComplete)
    #expect(scan.header?.systemIdentifier == identifier && scan.header?.segmentSize == size)
    #expect(scan.lastTransaction.map { PostgresTime.microseconds($0.time) } == 848_723_201_428_614)
    #expect(scan.lastTransaction?.end == commit)

    // Cut anywhere, the end is the last record that is whole: never beyond, never a trap.
    for cut in stride(from: 0, to: writer.offset, by: 37) {
      let short = self.scan(Array(whole[..<cut]))
      let expected = ends.last { $0 <= cut } ?? 0
      // A record's padding may be cut off.
      #expect(short.end.rawValue - 3 << 20 <= UInt64(cut + 7))
      #expect(short.end.rawValue >= UInt64(3 << 20 + expected))
    }
  }

  @Test func aSegmentThatIsFull() throws {
    // The last record goes on in the next segment; and one that ends exactly at the end.
    var writer = WALWriter(size: size, number: 3, identifier: identifier)
    writer.record(payload: 500_000)
    let start = LSN(UInt64(3 << 20 + writer.offset))
    writer.record(payload: 800_000)
    let crossing = scan(writer.segment(3))
    #expect(crossing.isComplete && crossing.end == start)
    let next = scan(writer.segment(4), number: 4)
    #expect(!next.isComplete && next.end == LSN(UInt64(3 << 20 + writer.offset)))

    // A record that fills several segments.
    var large = WALWriter(size: size, number: 3, identifier: identifier)
    large.record(payload: 3_500_000)
    for number in 3...5 {
      let scan = scan(large.segment(UInt64(number)), number: UInt64(number))
      #expect(scan.isComplete && scan.end == LSN(UInt64(number << 20)), "\(number)")
    }
  }

  @Test func recordsThatLieAcrossTwoSegmentsAreSeen() throws {
    var crossed = 0
    for distance in stride(from: 160, through: 0, by: -8) {
      var writer = WALWriter(size: size, number: 3, identifier: identifier)
      while size.bytes - writer.offset > 9000 { writer.record(payload: 4000) }
      // 29 bytes of headers before the payload, and padding to the next multiple of eight behind it.
      let room = size.bytes - writer.offset - distance - 29
      writer.record(payload: (writer.offset % 8192 + room + 29 > 8192 ? room - 24 : room) & ~7 | 3)
      let before = writer.offset
      let point = writer.restorePoint("noon", microseconds: 7)
      let commit = writer.commit(microseconds: 848_723_201_428_614)
      writer.record(payload: 10)
      var found: [WALScan.RestorePoint] = []
      var times: [Date] = []
      var carried: WALUnfinishedRecord?
      for number in [UInt64(3), 4] {
        let name = WALSegmentName(timeline: 1, number: number, segmentSize: size)
        let (scan, rest) = writer.segment(number).withUnsafeBytes { WALScanner.scan($0, as: name, after: carried) }
        carried = rest
        found += scan.restorePoints
        if let time = scan.newestTime { times.append(time) }
        if number == 4, writer.offset > size.bytes { #expect(scan.end == LSN(UInt64(3 << 20 + writer.offset))) }
      }
      #expect(found.map(\.name) == ["noon"] && found.map(\.start) == [point], "\(distance)")
      #expect(times.map(PostgresTime.microseconds) == [848_723_201_428_614], "\(distance)")
      if before < size.bytes, commit > LSN(4 << 20) { crossed += 1 }
    }
    #expect(crossed > 10)
  }

  @Test func aSwitchEndsTheSegment() throws {
    var writer = WALWriter(size: size, number: 3, identifier: identifier)
    writer.record(payload: 100)
    writer.record(payload: 0, info: 0x40, resourceManager: 0)
    let scan = scan(writer.padded)
    #expect(scan.isComplete && scan.end == LSN(4 << 20))
  }

  @Test func flippedBytesEndTheLog() throws {
    var writer = WALWriter(size: size, number: 3, identifier: identifier)
    for _ in 0..<40 { writer.record(payload: 1500) }
    let whole = writer.padded
    let end = scan(whole).end
    #expect(end == LSN(UInt64(3 << 20 + writer.offset)))
    var random = TestData.Random(seed: 3)
    for _ in 0..<3000 {
      var bad = whole
      let place = Int.random(in: 0..<writer.offset, using: &random)
      bad[place] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
      let scan = scan(bad)
      // Padding between records, and the spare bytes of headers, are nobody's.
      if scan.end != end {
        #expect(scan.end.rawValue <= UInt64(3 << 20 + place + 8))
      } else {
        #expect(writer.isSpare(place) || scan.header != self.scan(whole).header, "flip at \(place) was not seen")
      }
    }
  }

  @Test func recycledPagesAreNotTheLog() throws {
    var old = WALWriter(size: size, number: 3, identifier: identifier)
    for _ in 0..<400 { old.record(payload: 2000) }
    var new = WALWriter(size: size, number: 9, identifier: identifier)
    for _ in 0..<20 { new.record(payload: 2000) }
    // The server zeroes a page before it fills it; what lies behind is the older log.
    let cut = (new.offset / 8192 + 1) * 8192
    let recycled = Array(new.padded[..<cut]) + Array(old.padded[cut...])
    let scan = scan(recycled, number: 9)
    #expect(!scan.isComplete && scan.end == LSN(UInt64(9 << 20 + new.offset)))
    #expect(self.scan(old.padded, number: 9).header == nil, "a segment under another's name holds no log")
  }

  @Test func garbageHoldsNoLog() {
    var random = TestData.Random(seed: 4)
    for _ in 0..<200 {
      let bytes = (0..<Int.random(in: 0...20_000, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random)
      }
      let scan = scan(bytes)
      #expect(scan.header == nil && scan.end == scan.start && !scan.isComplete)
    }
    #expect(scan([UInt8](repeating: 0, count: 1 << 20)).header == nil)
  }
}
