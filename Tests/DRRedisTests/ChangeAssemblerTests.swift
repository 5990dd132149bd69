import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore
import Testing

struct ChangeAssemblerTests {
  static let id = String(repeating: "a1b2c3d4e5", count: 4)

  static func command(_ words: String...) -> String {
    var buffer = ByteBuffer()
    buffer.writeRESPCommand(words)
    return String(buffer: buffer)
  }

  /// However the stream is cut, what is in the segments is its bytes, with exact offsets, never ending in a transaction.
  @Test func whatIsStoredIsTheStreamToTheByte() throws {
    var random = TestData.Random(seed: 3)
    var text = Self.command("SELECT", "0")
    for index in 0..<400 {
      switch index % 5 {
      case 0:
        text += Self.command("MULTI") + Self.command("SET", "a", "\(index)") + Self.command("SELECT", "3")
        text += Self.command("HSET", "h", "f", "\(index)") + Self.command("EXEC") + Self.command("SELECT", "0")
      case 1: text += Self.command("PING")
      case 2: text += Self.command("SET", "#TS:1", "#DR1 history=x\r\n*1\r\n$4\r\nEXEC\r\n")
      default: text += Self.command("SET", "key\(index)", String(repeating: "v", count: index))
      }
    }
    let stream = ByteBuffer(string: text)
    for round in 0..<20 {
      var assembler = ChangeAssembler(at: ReplicationPosition(history: Self.id, offset: 1000), size: 5000)
      var pieces: [ChangeAssembler.Piece] = []
      var moment: Int64 = 1_764_000_000_000
      for piece in TestData.pieces(of: stream, upTo: [1, 7, 100, 3000][round % 4], seed: random.next()) {
        _ = try assembler.append(piece, at: moment)
        moment += Int64.random(in: -5...300, using: &random)
        if assembler.isFull, let full = assembler.seal() { pieces.append(full) }
      }
      if let last = assembler.seal() { pieces.append(last) }
      var all = ByteBuffer()
      var end: Int64 = 1000
      var arrival: Int64 = 0
      var scanner = ReplicationCommandScanner()
      for piece in pieces {
        #expect(piece.segment.start == end && piece.segment.history == Self.id)
        for batch in try ChangeSegmentFormat.read(piece.bytes, object: piece.segment.name) {
          #expect(batch.start == end && batch.arrival >= arrival && !batch.catchesUp)
          (end, arrival) = (batch.end, batch.arrival)
          all.writeImmutableBuffer(batch.bytes)
          var depth = 0
          try batch.bytes.withUnsafeReadableBytes { raw in
            try scanner.scan(raw) { command, _, _ in
              if command == .multi { depth += 1 }
              if command == .exec { depth -= 1 }
            }
          }
          #expect(depth == 0 && scanner.isAtBoundary)
        }
        #expect(piece.segment.end == end)
      }
      #expect(all == stream)
    }
  }

  @Test func aCutInTheMiddleIsAskedForAgain() throws {
    var assembler = ChangeAssembler(at: ReplicationPosition(history: Self.id, offset: 0), size: 1 << 20)
    let first = Self.command("SELECT", "2") + Self.command("SET", "a", "1")
    let transaction = Self.command("MULTI") + Self.command("SET", "b", "2") + Self.command("EXEC")
    _ = try assembler.append(ByteBuffer(string: first + transaction.prefix(30)), at: 1000)
    #expect(assembler.end == Int64(first.utf8.count))
    let other = String(repeating: "0f", count: 20)
    let beforeSealed = assembler.seal()
    let before = try #require(beforeSealed)
    assembler.resume(under: other)
    #expect(assembler.position == ReplicationPosition(history: other, offset: before.segment.end))
    _ = try assembler.append(ByteBuffer(string: transaction), at: 9000)
    let afterSealed = assembler.seal()
    let after = try #require(afterSealed)
    let batches = try ChangeSegmentFormat.read(after.bytes, object: "x")
    #expect(batches.count == 1 && batches[0].catchesUp && batches[0].database == 2)
    #expect(String(buffer: batches[0].bytes) == transaction && after.segment.history == other)
    let nothing = assembler.seal()
    #expect(nothing == nil)
  }

  /// What waited at the server is written as such, also where only the beginning of a command did.
  @Test func delaysAreWritten() throws {
    var assembler = ChangeAssembler(at: ReplicationPosition(history: Self.id, offset: 0), size: 1 << 20)
    let one = Self.command("INCR", "a")
    let pieces: [(moment: Int64, text: String, isLate: Bool, since: Int64?)] = [
      (1000, one, false, nil), (5000, one, true, 3000), (5001, one, true, nil), (5002, one, false, nil),
      (6000, String(one.prefix(5)), true, nil), (6001, String(one.dropFirst(5)), false, nil),
    ]
    for piece in pieces {
      _ = try assembler.append(
        ByteBuffer(string: piece.text), at: piece.moment, isLate: piece.isLate, since: piece.since)
    }
    let sealed = assembler.seal()
    let batches = try ChangeSegmentFormat.read(try #require(sealed).bytes, object: "x")
    #expect(batches.map(\.delay) == [nil, .begins(since: 3000), .goesOn, nil, .begins(since: nil)])
    #expect(batches.map(\.arrival) == [1000, 5000, 5001, 5002, 6001])
    // What came in the middle of a millisecond was not there at its beginning.
    let moments = [0.25, 0.2501, 0.2509].map { Date(timeIntervalSince1970: 1_000_000 + $0).millisecondsUp }
    #expect(moments == [1_000_000_250, 1_000_000_251, 1_000_000_251])
  }

  @Test func brokenSegmentsAreRefused() throws {
    var assembler = ChangeAssembler(at: ReplicationPosition(history: Self.id, offset: 7), size: 1 << 20)
    for _ in 0..<5 { _ = try assembler.append(ByteBuffer(string: Self.command("INCR", "a")), at: 5000) }
    let sealed = assembler.seal()
    let whole = try #require(sealed).bytes
    #expect(try ChangeSegmentFormat.read(whole, object: "x").count == 5)
    var refused = 0
    for cut in 1..<whole.readableBytes {
      let part = try #require(whole.getSlice(at: 0, length: cut))
      if (try? ChangeSegmentFormat.read(part, object: "x")) == nil { refused += 1 }
    }
    #expect(refused > whole.readableBytes - 30)
    var later = ByteBuffer(string: "#DR2 something=new\r\n")
    let error = try #require(throws: DRError.self) { try ChangeSegmentFormat.read(later, object: "x") }
    #expect(error.code == .unsupportedVersion)
    later = ByteBuffer(
      string: "#DR1 history=\(Self.id) offset=0\r\n#DR offset=0 at=1 database=0 bytes=999999999999\r\nx")
    #expect(throws: DRError.self) { try ChangeSegmentFormat.read(later, object: "x") }
  }

  @Test func chainsAndGaps() {
    func segment(_ start: Int64, _ end: Int64, _ history: String = ChangeAssemblerTests.id) -> ChangeSegment {
      ChangeSegment(start: start, end: end, history: history)
    }
    var partial = segment(30, 34)
    partial.isPartial = true
    let other = String(repeating: "0f", count: 20)
    let line = ChangeLine(
      id: Self.id,
      [segment(10, 20), segment(20, 30), partial, segment(30, 40), segment(40, 45, other), segment(60, 70)])
    func chain(_ offset: Int64, _ history: String = ChangeAssemblerTests.id) -> [Int64]? {
      line.chain(from: ReplicationPosition(history: history, offset: offset))?.map(\.end)
    }
    #expect(chain(10) == [20, 30, 40, 45])
    #expect(chain(25) == [30, 40, 45])
    #expect(chain(30) == [40, 45])
    #expect(chain(45, other) == [])
    #expect(chain(60) == [70])
    #expect(chain(9) == nil && chain(50) == nil && chain(44) == nil && chain(42, other) == [45])
    #expect(line.stretches == [10..<45, 60..<70])
    #expect(line.end == ReplicationPosition(history: Self.id, offset: 70))
  }

  /// The history changes before the first byte behind a snapshot.
  @Test func aLineBegunUnderAnotherHistory() {
    let other = String(repeating: "0f", count: 20)
    func chain(_ segments: [ChangeSegment], _ offset: Int64, _ history: String = ChangeAssemblerTests.id) -> [Int64]? {
      ChangeLine(id: Self.id, segments).chain(from: ReplicationPosition(history: history, offset: offset))?.map(\.end)
    }
    let first = ChangeSegment(start: 10, end: 20, history: other)
    let second = ChangeSegment(start: 20, end: 30, history: other)
    #expect(chain([first, second], 10) == [20, 30])
    // Elsewhere in the segments of another history, it is not this server's.
    #expect(chain([first, second], 20) == nil && chain([first, second], 15) == nil)
    #expect(chain([first, second], 10, String(repeating: "0e", count: 20)) == nil)
    // The second time, behind a gap.
    let before = ChangeSegment(start: 0, end: 5, history: Self.id)
    #expect(chain([before, first], 10) == [20])
  }
}
