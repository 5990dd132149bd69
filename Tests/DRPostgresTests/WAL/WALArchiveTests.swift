import DRCore
import DRPostgres
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

@Suite struct WALArchiveTests {
  private let size: WALSegmentSize
  private let identifier: UInt64 = 7_711_218_635_073_153_028
  private let name = "000000010000000000000003"

  init() throws { size = try WALSegmentSize(1 << 20) }

  private func archive(
    _ folder: String, encoding: Encoding = Encoding(), decoding: Decoding = Decoding()
  ) async throws -> (WALArchive, LocalTier) {
    let tier = try await LocalTier(root: folder + "/repository", creating: true)
    let archive = try WALArchive(
      tier: tier, component: WALFixture.component(), systemIdentifier: "\(identifier)", segmentSize: size,
      encoding: encoding, decoding: decoding)
    return (archive, tier)
  }

  /// A segment with so many records, and its log's end.
  private func segment(
    records: Int = 20, seed: Int = 0, number: UInt64 = 3, timeline: UInt32 = 1, identifier: UInt64? = nil
  ) -> (bytes: ByteBuffer, reach: Int) {
    var writer = WALWriter(
      size: size, number: number, identifier: identifier ?? self.identifier, timeline: timeline)
    writer.record(payload: 100 + seed)
    for _ in 0..<records { writer.record(payload: 2000) }
    return (ByteBuffer(bytes: writer.padded), writer.offset)
  }

  private func code(_ work: () async throws -> Void) async -> DRError.Code? {
    do {
      try await work()
      return nil
    } catch {
      return (error as? DRError)?.code
    }
  }

  @Test func theSameNameNeverGetsOtherContent() async throws {
    try await withTemporaryFolder { folder in
      let (archive, tier) = try await archive(folder)
      let (content, _) = segment()
      #expect(try await !archive.push(name, content))
      // The server asks again after a crash.
      #expect(try await archive.push(name, content))
      #expect(await code { try await archive.push(name, segment(seed: 1).bytes) } == .segmentConflict)
      #expect(try await archive.fetch(name) == content)
      let key = "postgres/wal/\(identifier)/0000000100000000/\(name)-"
      let objects = try await tier.listAll(prefix: "")
      #expect(objects.count == 1 && objects[0].key.rawValue.hasPrefix(key), "\(objects)")

      let history = ByteBuffer(string: "1\t0/3000148\tno recovery target specified\n")
      #expect(try await !archive.push("00000002.history", history))
      #expect(try await archive.push("00000002.history", history))
      #expect(
        await code { try await archive.push("00000002.history", ByteBuffer(string: "1\t0/4000148\tx\n")) }
          == .segmentConflict)
      #expect(try await archive.fetch("00000002.history") == history)

      let label = ByteBuffer(string: "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n")
      #expect(try await !archive.push("\(name).00000028.backup", label))
      #expect(try await archive.fetch("\(name).00000028.backup") == label)
      let inventory = try await archive.inventory()
      #expect(inventory.segments.count == 1 && inventory.histories == [2: 1] && inventory.foreign.isEmpty)
    }
  }

  @Test func whatIsNoWholeSegmentIsRefused() async throws {
    try await withTemporaryFolder { folder in
      let (archive, tier) = try await archive(folder)
      let (content, _) = segment()
      let whole = Array(content.readableBytesView)
      #expect(await code { try await archive.push(name, ByteBuffer()) } == .truncatedData)
      for length in [1, 39, 40, 8192, (1 << 20) - 1, (1 << 20) - 8192] {
        let short = ByteBuffer(bytes: whole.prefix(length))
        #expect(await code { try await archive.push(name, short) } == .truncatedData, "\(length)")
        #expect(await code { try await archive.push(name + ".partial", short) } == .truncatedData, "\(length)")
      }
      #expect(await code { try await archive.push(name, ByteBuffer(bytes: whole + [0])) } == .truncatedData)
      // All zeroes: made, never written.
      #expect(await code { try await archive.push(name, ByteBuffer(repeating: 0, count: 1 << 20)) } == .malformedData)
      // Another segment's content under this name: recycled, or copied wrongly.
      #expect(await code { try await archive.push(name, segment(number: 4).bytes) } == .malformedData)
      #expect(await code { try await archive.push(name, segment(timeline: 2).bytes) } == .malformedData)
      // A new timeline's segment starts with the old one's pages.
      #expect(try await !archive.push("000000020000000000000003", content))
      // Another cluster's.
      #expect(await code { try await archive.push(name, segment(identifier: 5).bytes) } == .invalidConfiguration)
      for history in ["", "garbage\n", "<html></html>", "2\t0/1\tx\n"] {
        let code = await code { try await archive.push("00000002.history", ByteBuffer(string: history)) }
        #expect(code == .malformedData, "\(history)")
      }
      for bad in ["", "../../etc/passwd", "x", "\(name).gz", "archive_status", "/\(name)"] {
        #expect(await code { try await archive.push(bad, content) } == .malformedData, "\(bad)")
        #expect(await code { _ = try await archive.fetch(bad) } == .malformedData, "\(bad)")
      }
      #expect(try await tier.listAll(prefix: "").count == 1)
    }
  }

  @Test func absentIsOnlyAbsent() async throws {
    try await withTemporaryFolder { folder in
      let (archive, tier) = try await archive(folder)
      for wanted in [name, name + ".partial", "00000002.history", name + ".00000028.backup"] {
        #expect(await code { _ = try await archive.fetch(wanted) } == .objectNotFound, "\(wanted)")
      }
      try await archive.push(name, segment().bytes)
      let object = try #require(try await tier.listAll(prefix: "").first)
      let path = folder + "/repository/" + object.key.rawValue
      let good = try Data(contentsOf: URL(fileURLWithPath: path))
      var random = TestData.Random(seed: 8)
      for _ in 0..<40 {
        var bad = good
        bad[Int.random(in: 0..<bad.count, using: &random)] ^= UInt8(1 << Int.random(in: 0..<8, using: &random))
        try bad.write(to: URL(fileURLWithPath: path))
        do {
          // A bit may be flipped in the frame table, which a whole read does not need.
          #expect(try await archive.fetch(name) == segment().bytes)
        } catch let error as DRError {
          #expect([.corruptData, .malformedData, .truncatedData, .unsupportedVersion].contains(error.code), "\(error)")
          #expect(error.object?.contains(name) == true, "\(error)")
        }
      }
      for cut in [0, 1, good.count / 2, good.count - 1] {
        try good.prefix(cut).write(to: URL(fileURLWithPath: path))
        let code = await code { _ = try await archive.fetch(name) }
        #expect(code != nil && code != .objectNotFound, "cut at \(cut)")
      }
      try good.write(to: URL(fileURLWithPath: path))
      // The folder of the mount, without the mount.
      try FileManager.default.moveItem(atPath: folder + "/repository", toPath: folder + "/away")
      #expect(await code { _ = try await archive.fetch(name) } == .tierUnavailable)
      try FileManager.default.createDirectory(atPath: folder + "/repository", withIntermediateDirectories: false)
      #expect(await code { _ = try await archive.fetch(name) } == .tierUnavailable)
      #expect(await code { try await archive.push(name, segment().bytes) } == .tierUnavailable)
    }
  }

  @Test func aPartialSegmentComesWithZeroes() async throws {
    try await withTemporaryFolder { folder in
      let (archive, tier) = try await archive(folder)
      let (short, reach) = segment(records: 10)
      let (long, further) = segment(records: 40)
      // As a server gives it at its promotion: full size, and anything behind the end of the log.
      var withGarbage = Array(short.readableBytesView)
      for place in (reach + 64)..<withGarbage.count { withGarbage[place] = 0xEE }
      #expect(try await !archive.push(name + ".partial", ByteBuffer(bytes: withGarbage)))
      #expect(try await archive.fetch(name) == short)
      #expect(try await archive.fetch(name + ".partial") == short)
      #expect(try await archive.inventory().partials.values.first == reach)
      // Again, and with less: both are there already.
      #expect(try await archive.push(name + ".partial", ByteBuffer(bytes: withGarbage)))
      #expect(try await archive.push(name + ".partial", segment(records: 5).bytes))
      // A longer continuation supersedes it; then the full segment does.
      #expect(try await !archive.push(name + ".partial", long))
      #expect(try await archive.fetch(name) == long)
      #expect(try await archive.inventory().partials.values.first == further)
      #expect(try await tier.listAll(prefix: "").count == 1)
      #expect(try await !archive.push(name, long))
      #expect(try await archive.push(name + ".partial", short))
      #expect(try await archive.fetch(name) == long)
      let objects = try await tier.listAll(prefix: "")
      #expect(objects.count == 1 && !objects[0].key.rawValue.contains("partial"))
    }
  }

  @Test func twoDifferentStartsAreAConflict() async throws {
    try await withTemporaryFolder { folder in
      let (archive, tier) = try await archive(folder)
      try await archive.push(name + ".partial", segment(records: 10).bytes)
      let stored = try #require(try await tier.listAll(prefix: "").first)
      let bytes = try await tier.read(stored.key)
      // Another server's, longer and different; the first one is put back, as if both had been stored at once.
      try await archive.push(name + ".partial", segment(records: 40, seed: 1).bytes)
      _ = try await tier.put(stored.key, ByteStream(bytes), PutOptions())
      #expect(await code { _ = try await archive.fetch(name) } == .segmentConflict)
    }
  }

  @Test func stockToolsOpenIt() async throws {
    try await withTemporaryFolder { folder in
      let (archive, tier) = try await archive(folder)
      let (content, _) = segment()
      try await archive.push(name, content)
      let key = try #require(try await tier.listAll(prefix: "").first).key.rawValue
      let path = "\(folder)/repository/\(key)"
      let opened = try await runCommand("zstd", ["-dc", path])
      #expect(opened.status == 0 && opened.output == Array(content.readableBytesView))
      let digest = try await runCommand("sh", ["-c", "zstd -dc '\(path)' | sha256sum"])
      #expect(key.contains(String(decoding: digest.output.prefix(64), as: UTF8.self)))
    }
  }

  @Test func messagesAndSegments() throws {
    let status = ReplicationMessage.status(received: LSN(3), durable: LSN(2), clock: 5, replyRequested: true)
    #expect(
      Array(status.readableBytesView)
        == [UInt8(ascii: "r")] + [0, 0, 0, 0, 0, 0, 0, 3] + [0, 0, 0, 0, 0, 0, 0, 2] + [UInt8](repeating: 0, count: 8)
        + [0, 0, 0, 0, 0, 0, 0, 5] + [1])
    let numbers: [UInt8] = [0, 0, 0, 1, 0, 0, 0, 2] + [0, 0, 0, 1, 0, 0, 0, 9] + [0, 0, 0, 0, 0, 0, 0, 7]
    let data = [UInt8(ascii: "w")] + numbers + [1, 2, 3]
    #expect(
      try data.withUnsafeBytes { try ReplicationMessage($0) }
        == .data(start: LSN("1/2")!, serverEnd: LSN("1/9")!, clock: 7))
    let keepalive = [UInt8(ascii: "k")] + numbers.dropFirst(8) + [1]
    #expect(
      try keepalive.withUnsafeBytes { try ReplicationMessage($0) }
        == .keepalive(serverEnd: LSN("1/9")!, clock: 7, replyRequested: true))
    for bad in [
      [], Array(data.prefix(24)), Array(keepalive.prefix(17)), keepalive + [0], [UInt8(ascii: "z")] + numbers,
    ] {
      #expect(throws: DRError.self) { try bad.withUnsafeBytes { try ReplicationMessage($0) } }
    }

    // Segments come out whole however the log was cut; a step back or forward is an error.
    var random = TestData.Random(seed: 9)
    let log = [UInt8](TestData.rows(3 << 20 + 12_345).readableBytesView)
    let first = WALSegmentName(timeline: 1, number: 7, segmentSize: size)
    var assembler = WALAssembler(at: first)
    var offset = 0
    while offset < log.count {
      let count = min(Int.random(in: 1...1_500_000, using: &random), log.count - offset)
      let start = first.start.advanced(by: UInt64(offset))
      try log.withUnsafeBytes {
        try assembler.append(UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count]), at: start)
      }
      offset += count
      #expect(assembler.position == first.start.advanced(by: UInt64(offset)))
    }
    for wrong in [assembler.position.rawValue - 1, assembler.position.rawValue + 1] {
      #expect(throws: DRError.self) { try log.withUnsafeBytes { try assembler.append($0, at: LSN(wrong)) } }
    }
    for number in 0..<3 {
      let taken = assembler.takeCompleted()
      let full = try #require(taken)
      #expect(full.name.number == 7 + UInt64(number))
      #expect(full.bytes.readableBytesView.elementsEqual(log[number << 20..<(number + 1) << 20]))
    }
    let noMore = assembler.takeCompleted()
    #expect(noMore == nil && assembler.bytes.readableBytes == 12_345)
  }
}
