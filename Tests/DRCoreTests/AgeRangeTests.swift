import DRCore
import NIOCore
import Testing

/// Ranges of the plain bytes from the chunks that they touch.
@Suite("age: ranges")
struct AgeRangeTests {
  private struct Object {
    let plain: [UInt8]
    let stored: [UInt8]
    let payload: AgePayload

    init(size: Int) throws {
      var random = SeededBytes(seed: UInt64(size))
      plain = random.bytes(size)
      let identity = AgeIdentity.generate()
      stored = try ageEncrypt(plain, to: [try #require(identity.recipient)])
      var reader = AgeHeaderReader(identities: [identity], object: "test/object.age")
      var beginning = ByteBuffer(bytes: stored.prefix(4096))
      let before = beginning.readableBytes
      payload = try #require(try reader.update(&beginning))
      #expect(payload.offset == Int64(before - beginning.readableBytes))
    }

    func read(_ range: Range<Int64>, pieces: Int = 1 << 20, from stored: [UInt8]? = nil) throws -> [UInt8] {
      let stored = stored ?? self.stored
      var decryptor = try AgeRangeDecryptor(payload, plainRange: range, storedSize: Int64(stored.count))
      let touched = stored[Int(decryptor.storedRange.lowerBound)..<Int(decryptor.storedRange.upperBound)]
      var opened: [UInt8] = []
      for start in stride(from: touched.startIndex, to: touched.endIndex, by: pieces) {
        let piece = touched[start..<min(start + pieces, touched.endIndex)]
        opened += try decryptor.update(ByteBuffer(bytes: piece)).readableBytesView
      }
      opened += try decryptor.finish().readableBytesView
      return opened
    }
  }

  @Test("any range is what the whole has there", arguments: [0, 1, 65_535, 65_536, 65_537, 131_072, 400_000])
  func ranges(size: Int) throws {
    let object = try Object(size: size)
    var random = SeededBytes(seed: 3)
    let edges = [0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, size - 1, size].filter { 0...size ~= $0 }
    var ranges = edges.flatMap { lower in edges.filter { $0 >= lower }.map { lower..<$0 } }
    for _ in 0..<40 {
      let lower = Int.random(in: 0...size, using: &random)
      ranges.append(lower..<Int.random(in: lower...size, using: &random))
    }
    for range in ranges {
      let pieces = Int.random(in: 1000...200_000, using: &random)
      let opened = try object.read(Int64(range.lowerBound)..<Int64(range.upperBound), pieces: pieces)
      let isSame = opened == Array(object.plain[range])
      #expect(isSame, "\(range) in pieces of \(pieces)")
    }
    for outside in [-1..<0, 0..<Int64(size + 1), Int64(size + 1)..<Int64(size + 1), 0..<Int64.max, Int64.min..<1] {
      let error = #expect(throws: DRError.self) { try object.read(outside) }
      #expect(error?.code == .invalidConfiguration)
    }
  }

  @Test("only the chunks that are touched are fetched, and chunks open by themselves")
  func onlyTouched() throws {
    let object = try Object(size: 400_000)
    let layout = try AgeLayout(
      payloadOffset: object.payload.offset, storedSize: Int64(object.stored.count), object: "o")
    #expect(layout.plainSize == 400_000)
    #expect(layout.chunkCount == 7)
    #expect(try layout.chunks(for: 65_535..<65_537) == 0..<2)
    #expect(try layout.chunks(for: 65_536..<131_072) == 1..<2)
    #expect(try layout.chunks(for: 399_999..<400_000) == 6..<7)
    #expect(try layout.chunks(for: 70_000..<70_000).isEmpty)
    for index in 0..<layout.chunkCount {
      let range = layout.storedRange(ofChunks: index..<(index + 1))
      #expect(range.lowerBound == object.payload.storedOffset(ofChunk: index))
      let stored = ByteBuffer(bytes: object.stored[Int(range.lowerBound)..<Int(range.upperBound)])
      let isLast = index == layout.chunkCount - 1
      let opened = try object.payload.openChunk(stored, index: index, isLast: isLast)
      let first = Int(index) * 65_536
      let isSame = opened.readableBytesView.elementsEqual(object.plain[first..<min(first + 65_536, 400_000)])
      #expect(isSame)
      for (index, isLast) in [(index + 1, isLast), (index, !isLast), (-1, isLast), (.max, isLast)] {
        let error = #expect(throws: DRError.self) {
          try object.payload.openChunk(stored, index: index, isLast: isLast)
        }
        #expect(error?.code == .corruptData)
      }
    }
  }

  @Test("damage in a chunk that is touched is located; elsewhere it is not met")
  func damage() throws {
    let object = try Object(size: 400_000)
    var damaged = object.stored
    let offset = Int(object.payload.storedOffset(ofChunk: 2))
    damaged[offset + 77] ^= 1
    let error = #expect(throws: DRError.self) { try object.read(140_000..<140_001, from: damaged) }
    #expect(error?.code == .corruptData)
    #expect(error?.message.contains("chunk 2 of its age payload, at stored offset \(offset),") == true)
    #expect(error?.object == "test/object.age")
    let isSameBefore = try object.read(0..<131_072, from: damaged) == Array(object.plain[..<131_072])
    let isSameAfter = try object.read(196_608..<400_000, from: damaged) == Array(object.plain[196_608...])
    #expect(isSameBefore && isSameAfter)
  }

  @Test("an object cut off is noticed by who reads its end")
  func cutOff() throws {
    let object = try Object(size: 400_000)
    let start = Int(object.payload.offset)
    for length in [start + 16, start + 65_552, start + 2 * 65_552, start + 100_000, object.stored.count - 1] {
      let cut = Array(object.stored[..<length])
      let size = try AgeLayout(payloadOffset: Int64(start), storedSize: Int64(length), object: "o").plainSize
      #expect(throws: DRError.self) { try object.read(max(0, size - 1)..<size, from: cut) }
    }
    for (length, code) in [
      (0, DRError.Code.truncatedData), (start, .truncatedData), (start + 15, .truncatedData),
      (start + 65_552 + 1, .truncatedData), (start + 65_552 + 15, .truncatedData),
      (start + 65_552 + 16, .malformedData),
    ] {
      let error = #expect(throws: DRError.self) {
        try AgeLayout(payloadOffset: Int64(start), storedSize: Int64(length), object: "o")
      }
      #expect(error?.code == code, "\(length)")
    }
    for (offset, size) in [(-1, 100), (.max, .min), (.min, .max), (0, .min)] as [(Int64, Int64)] {
      #expect(throws: DRError.self) { try AgeLayout(payloadOffset: offset, storedSize: size, object: "o") }
    }
    #expect(throws: Never.self) { try AgeLayout(payloadOffset: 0, storedSize: .max, object: "o") }
  }

  @Test("fewer or more stored bytes than the range has")
  func wrongCount() throws {
    let object = try Object(size: 200_000)
    var few = try AgeRangeDecryptor(object.payload, plainRange: 0..<10, storedSize: Int64(object.stored.count))
    _ = try few.update(ByteBuffer(bytes: object.stored[Int(object.payload.offset)...].prefix(100)))
    #expect(#expect(throws: DRError.self) { try few.finish() }?.code == .truncatedData)
    var many = try AgeRangeDecryptor(object.payload, plainRange: 0..<10, storedSize: Int64(object.stored.count))
    let error = #expect(throws: DRError.self) { try many.update(ByteBuffer(bytes: object.stored)) }
    #expect(error?.code == .malformedData)
  }

  @Test("the header, in pieces of any size, leaves the payload where it is")
  func header() throws {
    let identity = AgeIdentity.generate()
    let stored = try ageEncrypt([1, 2, 3], to: [try #require(identity.recipient)])
    for size in [1, 2, 15, 16, 17, 100] {
      var reader = AgeHeaderReader(identities: [identity], object: "o")
      var payload: AgePayload?
      var next = 0
      while payload == nil {
        try #require(next < stored.count)
        var piece = ByteBuffer(bytes: stored[next..<min(next + size, stored.count)])
        let count = piece.readableBytes
        payload = try reader.update(&piece)
        next += count - piece.readableBytes
      }
      #expect(payload?.offset == Int64(next))
      #expect(next == stored.count - 3 - 16)
    }
  }
}
