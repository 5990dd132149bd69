import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore
import Testing

struct RDBScannerTests {
  static func scan(
    _ pieces: [ByteBuffer], _ options: RDBScanner.Options = RDBScanner.Options(checksValues: true)
  ) throws -> RDBSummary {
    var scanner = RDBScanner(object: "test.rdb", options: options)
    for piece in pieces { try scanner.scan(piece) }
    return try scanner.finish()
  }

  @Test("CRC64 has its check value, and the same value for every way of cutting")
  func crc64() {
    #expect(Array("123456789".utf8).withUnsafeBytes { CRC64.of($0) } == 0xe9c6_d914_c4b8_d9ca)
    let buffer = TestData.rows(10_000)
    let whole = buffer.withUnsafeReadableBytes { CRC64.of($0) }
    for seed in 0..<20 {
      var crc = CRC64()
      for piece in TestData.pieces(of: buffer, upTo: 1 + Int(seed) * 17, seed: UInt64(seed)) {
        piece.withUnsafeReadableBytes { crc.update($0) }
      }
      #expect(crc.value == whole)
    }
    // With carry-less multiplication as without, at every length around where it begins.
    for count in Array(0...700) + [4096, 9999] {
      var tables = CRC64()
      buffer.withUnsafeReadableBytes { bytes in
        let part = UnsafeRawBufferPointer(rebasing: bytes[1..<min(bytes.count, 1 + count)])
        tables.updateByTables(part)
        #expect(tables.value == CRC64.of(part))
      }
    }
  }

  @Test("A file of every type and encoding has the counts that the server states, wherever it is cut")
  func everyType() async throws {
    try await LocalRedis.with { server in
      try await SampleKeys.fill(server)
      let bytes = try await server.save()
      let whole = try RDBScannerTests.scan([ByteBuffer(bytes: bytes)])
      try await RDBScannerTests.compare(whole, with: server)
      try RDBScannerTests.cut(bytes, expecting: whole)
      let judge = try await runCommand("redis-check-rdb", [server.dump])
      #expect(judge.status == 0)
    }
  }

  private static func compare(_ summary: RDBSummary, with server: LocalRedis) async throws {
    let keyspace = try await server.command("info", "keyspace")
    for (number, keys) in summary.keysPerDatabase {
      #expect(keyspace.contains("db\(number):keys=\(keys),expires=\(summary.expiriesPerDatabase[number] ?? 0),"))
    }
    #expect(keyspace.components(separatedBy: "db").count - 1 == summary.keysPerDatabase.count)
    // And so says the file.
    #expect(summary.statedKeysPerDatabase == summary.keysPerDatabase && summary.disagreement == nil)
    #expect(summary.checksum == .verified)
    #expect(summary.functions == 2)
    #expect(summary.version == 10)
    #expect(summary.uncheckedValues == 0)
    let version = try #require(summary.aux["redis-ver"])
    #expect(try await server.command("info", "server").contains("redis_version:\(version)"))
    // Every encoding that this version writes.
    #expect(Set(summary.keysByEncoding.keys) == [0, 2, 4, 5, 11, 16, 17, 18, 19])
    #expect(summary.largestKeys.count == 10)
    #expect(summary.largestKeys.first?.name == "long")
    for type in ["string", "list", "set", "zset", "hash", "stream"] {
      var counted = 0
      for number in summary.keysPerDatabase.keys { counted += try await server.count(type, database: number) }
      #expect(summary.keysByType[type] == counted)
    }
    try await compareEncodings(summary, with: server)
  }

  /// Each type of the file against the type and the encoding that the server says of its keys, as a table.
  private static func compareEncodings(_ summary: RDBSummary, with server: LocalRedis) async throws {
    var stated: [String: Int] = [:]
    for database in summary.keysPerDatabase.keys {
      stated.merge(try await server.encodings(database: database)) { $0 + $1 }
    }
    let forms = [
      0: ["string int", "string embstr", "string raw"], 2: ["set hashtable"], 4: ["hash hashtable"],
      5: ["zset skiplist"], 11: ["set intset"], 16: ["hash listpack"], 17: ["zset listpack"], 18: ["list quicklist"],
      19: ["stream stream"],
    ]
    let document = try RDBScannerTests.documentedCounts()
    #expect(Set(document.keys) == Set(summary.keysByEncoding.keys))
    print("RDB type          in the file  by the server")
    for (number, count) in summary.keysByEncoding.sorted(by: { $0.key < $1.key }) {
      let names = forms[number] ?? []
      let counted = names.reduce(0) { $0 + (stated[$1] ?? 0) }
      #expect(count == counted && document[number] == [count, counted], "type \(number)")
      let name = names.first.map { names.count > 1 ? "\($0.split(separator: " ")[0])" : $0 } ?? "unknown"
      let columns = [("\(number)", 3), (name, 15), ("\(count)", 13), ("\(counted)", 0)]
      print(columns.map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }.joined())
    }
    #expect(stated.values.reduce(0, +) == summary.keys)
    for (database, expiries) in summary.expiriesPerDatabase.sorted(by: { $0.key < $1.key }) {
      print("database \(database): \(summary.keysPerDatabase[database] ?? 0) keys, \(expiries) with a time to live")
    }
  }

  /// What REDIS.md says of the types that a server was asked about: keys in the file, and by the server.
  private static func documentedCounts() throws -> [Int: [Int]] {
    let here = URL(filePath: #filePath).deletingLastPathComponent()
    let document = try String(contentsOf: here.appending(path: "../../../REDIS.md"), encoding: .utf8)
    var counts: [Int: [Int]] = [:]
    for row in document.split(separator: "\n") {
      let cells = row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      guard cells.count == 5, let number = Int(cells[0]), let file = Int(cells[2]), let server = Int(cells[3]) else {
        continue
      }
      counts[number] = [file, server]
    }
    return counts
  }

  private static func cut(_ bytes: [UInt8], expecting whole: RDBSummary) throws {
    let buffer = ByteBuffer(bytes: bytes)
    for seed in 1...40 {
      let pieces = TestData.pieces(of: buffer, upTo: [1, 2, 7, 30, 64, 65, 200, 5000][seed % 8], seed: UInt64(seed))
      #expect(try RDBScannerTests.scan(pieces) == whole)
      #expect(try RDBScannerTests.scan(pieces, RDBScanner.Options()) == whole)
    }
  }
}
