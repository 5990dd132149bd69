import DRCore
import DRPostgres
import Testing

@Suite struct WALNamesTests {
  private let standard = WALSegmentSize.standard

  @Test func positionsAsText() throws {
    for (text, value) in [("0/0", 0), ("0/3000148", 0x300_0148), ("1/0", 1 << 32), ("A2/FF", 0xA2 << 32 | 0xFF)] {
      #expect(LSN(text) == LSN(UInt64(value)))
      #expect(LSN(UInt64(value)).description == text)
    }
    #expect(LSN("FFFFFFFF/FFFFFFFF") == LSN(.max))
    #expect(LSN("ab/cd") == LSN("AB/CD"))
    for text in ["", "/", "0", "0/", "/0", "0/0/0", "0/123456789", "x/0", "-1/0", "+1/0", " 0/0", "0x1/0", "0/０"] {
      #expect(LSN(text) == nil, "\(text)")
    }
    #expect(LSN("1/0")! > LSN("0/FFFFFFFF")!)
  }

  @Test func segmentSizes() throws {
    for shift in 20...30 { #expect(try WALSegmentSize(1 << shift).bytes == 1 << shift) }
    for bytes in [0, -1, 1 << 19, 1 << 31, 3 << 20, (16 << 20) + 1, Int.min, Int.max] {
      #expect(throws: DRError.self) { try WALSegmentSize(bytes) }
    }
  }

  @Test func segmentNames() throws {
    let name = try WALSegmentName(parsing: "00000002000000A2000000FF", segmentSize: standard)
    #expect(name.timeline == 2 && name.number == 0xA2FF && name.description == "00000002000000A2000000FF")
    #expect(name.start == LSN("A2/FF000000") && name.end == LSN("A3/0"))
    #expect(name.next.description == "00000002000000A300000000")
    #expect(WALSegmentName(timeline: 2, holding: LSN("A2/FF001234")!, segmentSize: standard) == name)

    let small = try WALSegmentSize(1 << 20)
    #expect(try WALSegmentName(parsing: "000000010000000100000FFF", segmentSize: small).start == LSN("1/FFF00000"))
    #expect(throws: DRError.self) { try WALSegmentName(parsing: "000000010000000100001000", segmentSize: small) }
    let large = try WALSegmentSize(1 << 30)
    #expect(
      try WALSegmentName(parsing: "000000010000000100000003", segmentSize: large).next.description
        == "000000010000000200000000")
    // The last segment that there is.
    let last = try WALSegmentName(parsing: "FFFFFFFFFFFFFFFF000000FF", segmentSize: standard)
    #expect(last.next == last && last.end == LSN(.max))
    for text in [
      "", "00000002000000A2000000F", "00000002000000A2000000FF0", "00000002000000a2000000ff",
      "00000002000000A200000100",
      "00000000000000A2000000FF", "0000000200000 A2000000FF", "../../../../../../etc/pa", "+0000002000000A2000000FF",
    ] {
      #expect(throws: DRError.self, "\(text)") { try WALSegmentName(parsing: text, segmentSize: standard) }
    }
  }

  @Test func fileNames() throws {
    let segment = try WALSegmentName(parsing: "000000010000000000000003", segmentSize: standard)
    let names: [(String, WALFileName)] = [
      ("000000010000000000000003", .segment(segment)), ("000000010000000000000003.partial", .partial(segment)),
      ("000000010000000000000003.00000028.backup", .backupLabel(segment, offset: 0x28)),
      ("0000000A.history", .history(timeline: 10)),
    ]
    for (text, name) in names {
      #expect(try WALFileName(parsing: text, segmentSize: standard) == name)
      #expect(name.description == text)
    }
    for text in [
      "", ".", "..", ".history", "00000000.history", "0000000a.history", "00000001.partial",
      "000000010000000000000003.",
      "000000010000000000000003.backup", "000000010000000000000003.28.backup", "000000010000000000000003.history",
      "000000010000000000000003.00000028.partial", "000000010000000000000003.00000028.backup.gz", "archive_status",
    ] {
      #expect(throws: DRError.self, "\(text)") { try WALFileName(parsing: text, segmentSize: standard) }
    }
  }

  @Test func timelineHistories() throws {
    let text = "1\t0/5000000\tno recovery target specified\n\n# comment\n2\t0/7000148\tbefore 2026-11-23 04:00:00+00\n"
    let history = try TimelineHistory(parsing: text, timeline: 3)
    #expect(history.ancestors.map(\.timeline) == [1, 2])
    #expect(history.ancestors.last?.reason == "before 2026-11-23 04:00:00+00")
    for (position, timeline) in [("0/0", 1), ("0/4FFFFFF", 1), ("0/5000000", 2), ("0/7000147", 2), ("0/7000148", 3)] {
      #expect(history.timeline(holding: LSN(position)!) == UInt32(timeline))
    }
    #expect(history.end(of: 1) == LSN("0/5000000") && history.end(of: 3) == nil && history.end(of: 9) == nil)
    #expect(history.start(of: 1) == LSN(0) && history.start(of: 2) == LSN("0/5000000"))
    #expect(history.start(of: 3) == LSN("0/7000148") && history.start(of: 9) == nil)
    #expect(history.continues(from: LSN("0/5000000")!, on: 1) && !history.continues(from: LSN("0/5000001")!, on: 1))
    #expect(history.continues(from: LSN("9/0")!, on: 3) && !history.continues(from: LSN("0/1")!, on: 7))
    #expect(TimelineHistory(root: 1).timeline(holding: LSN("5/0")!) == 1)
    for bad in [
      "", "\n", "# only a comment\n", "1\n", "1\tx\t\n", "x\t0/1\t\n", "0\t0/1\t\n", "3\t0/1\t\n", "4\t0/1\t\n",
      "-1\t0/1\t\n",
      "2\t0/1\t\n1\t0/2\t\n", "1\t0/5\t\n2\t0/4\t\n", "1\t0/5\t\n1\t0/6\t\n", "1\t0/5\t\ngarbage\n", "<html>\n",
    ] {
      #expect(throws: DRError.self, "\(bad.debugDescription)") { try TimelineHistory(parsing: bad, timeline: 3) }
    }
  }
}
