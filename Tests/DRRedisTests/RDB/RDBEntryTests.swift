import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore
import Testing

struct RDBEntryTests {
  static func read(
    _ pieces: [ByteBuffer], valueLimit: Int = 32 << 20,
    selects: @escaping @Sendable (RDBKey) -> Bool = { _ in true }
  ) throws -> [RDBEntry] {
    var reader = RDBEntryReader(object: "test.rdb", valueLimit: valueLimit, selects: selects)
    var entries: [RDBEntry] = []
    for piece in pieces {
      reader.append(piece)
      while let item = try reader.next() {
        if case .entry(let entry) = item { entries.append(entry) }
      }
    }
    _ = try reader.finish()
    return entries
  }

  private static func hex(_ buffer: ByteBuffer) -> String {
    buffer.readableBytesView.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  @Test("Every entry has the type, the time to live and the DUMP payload that the server says, wherever it is cut")
  func everyEntry() async throws {
    try await LocalRedis.with { server in
      try await SampleKeys.fill(server)
      let bytes = try await server.save()
      var expected: Set<String> = []
      for database in [0, 5, 9] {
        for line in try await server.listing(database: database) { expected.insert("\(database) \(line)") }
      }
      try RDBEntryTests.compare(bytes, expected)
    }
  }

  private static func compare(_ bytes: [UInt8], _ expected: Set<String>) throws {
    for most in [1 << 20, 5000, 64, 3] {
      let pieces = TestData.pieces(of: ByteBuffer(bytes: bytes), upTo: most, seed: 7)
      let entries = try read(pieces)
      let found = try entries.map { entry in
        var payload = ByteBuffer()
        DumpPayload.write(try #require(entry.value), type: entry.type, into: &payload)
        #expect(payload.readableBytes == Int(entry.valueBytes) + DumpPayload.overhead)
        // The server names its own version, we the first that knows the type: both end in their checksum.
        let body = hex(payload).dropLast(20)
        return "\(entry.database) \(hex(entry.key)) \(entry.type.family) \(entry.expiry ?? -1) \(body)"
      }
      #expect(found.count == expected.count)
      #expect(Set(found) == expected)
    }
  }

  @Test("A value over the limit is stepped over and said to be; values that are not selected are not held")
  func limits() throws {
    var forge = RDBForge()
    let long = [UInt8](repeating: 120, count: 100_000)
    forge.key("before", 0, RDBForge.string("a"))
    forge.key("long", 0, RDBForge.string(long))
    forge.key(String(repeating: "k", count: 5000), 0, RDBForge.string("b"))
    forge.key("after", 0, RDBForge.string("c"))
    for most in [10, 1000, 1 << 20] {
      let pieces = TestData.pieces(of: ByteBuffer(bytes: forge.file()), upTo: most)
      let entries = try RDBEntryTests.read(pieces, valueLimit: 1000)
      #expect(entries.map { $0.value == nil } == [false, true, true, false])
      #expect(entries[1].valueBytes == 100_005)
      #expect(String(buffer: entries[3].key) == "after")
      let some = try RDBEntryTests.read(pieces) { String(buffer: $0.key) == "long" }
      #expect(some.count == 1 && some[0].value?.readableBytes == 100_005)
    }
  }

  @Test("A payload of the recorded module's value, and of functions, has its CRC64 at its end")
  func payloads() throws {
    var reader = RDBEntryReader(object: "test.rdb")
    reader.append(ByteBuffer(bytes: RecordedFiles.version12))
    var kinds: [String] = []
    while let item = try reader.next() {
      switch item {
      case .entry(let entry): kinds.append(entry.type.family)
      case .function(let library):
        let payload = DumpPayload.functions([try #require(library)])
        let all = Array(payload.readableBytesView)
        let crc = all.dropLast(8).withUnsafeBytes { CRC64.of($0) }
        #expect(Array(all.suffix(8)) == RDBForge.little(crc, 8))
        kinds.append("function")
      }
    }
    #expect(kinds.count == 13 && kinds.contains("module") && kinds.contains("function"))
    #expect(try reader.finish())
  }

  @Test("The slot of a key is the one that the server says")
  func slots() async throws {
    let keys = [
      "foo", "", "{user1000}.following", "foo{}{bar}", "foo{{bar}}zap", "foo{bar}{zap}", "ключ", "{", "}{", "a{b",
      "12345",
    ]
    try await LocalRedis.with(["--cluster-enabled", "yes", "--cluster-port", "\(Int.random(in: 20000...29999))"]) {
      server in
      for key in keys {
        let answer = try await server.command("cluster", "keyslot", key)
        #expect(answer == "\(HashSlot.of(ByteBuffer(string: key)))", "\(key)")
      }
    }
  }

  @Test("A pattern means what it means to KEYS")
  func patterns() async throws {
    let names = [
      "a", "ab", "abc", "b", "user:1", "user:12", "user:x", "a*b", "a[b", "a\\\\b", "h-llo", "hello", "hallo", "hbllo",
      "", "-", "]",
    ]
    let patterns = [
      "*", "a*", "*b", "?", "??", "user:*", "user:?", "user:[0-9]", "user:[^0-9]", "h[ae]llo", "h[^e]llo", "h[a-b]llo",
      "h[b-a]llo",
      "a\\\\*b", "a\\\\[b", "[", "[a", "a[b-", "**b", "*:*", "*l*o", "[]", "[^]", "", "a**c", "[^a]*", "[\\\\]]",
    ]
    try await LocalRedis.with { server in
      try await server.script(names.map { "SET \"\($0)\" x" })
      for pattern in patterns {
        let answer = try await server.script(["EVAL \"return #redis.call('KEYS', ARGV[1])\" 0 \"\(pattern)\""])
        let ours = KeyPattern(pattern.replacing("\\\\", with: "\\"))
        let matching = names.filter { name in
          ByteBuffer(string: name.replacing("\\\\", with: "\\")).withUnsafeReadableBytes { ours.matches($0) }
        }
        #expect(answer.first == "\(matching.count)", "\(pattern): \(matching)")
      }
    }
    // Does not take time that grows with a power of the stars.
    let evil = KeyPattern(String(repeating: "a*", count: 50) + "b")
    #expect(!ByteBuffer(repeating: 97, count: 100_000).withUnsafeReadableBytes { evil.matches($0) })
  }
}
