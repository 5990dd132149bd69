import DRCore
import DRRedis
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Files that are torn, flipped, old, new, or made to hurt.
struct RDBHostileTests {
  private static func scan(_ bytes: [UInt8]) throws -> RDBSummary {
    try RDBScannerTests.scan([ByteBuffer(bytes: bytes)])
  }

  private static func refusal(_ bytes: [UInt8]) -> DRError? {
    do {
      _ = try scan(bytes)
      return nil
    } catch let error as DRError {
      return error
    } catch {
      return nil
    }
  }

  @Test("Files of Redis 6.2 and of Redis 8.2 with a module are read as their servers counted them")
  func recorded() throws {
    let old = try RDBHostileTests.scan(RecordedFiles.version9)
    #expect(old.version == 9)
    #expect(old.keysPerDatabase == [0: 10, 3: 1])
    #expect(old.expiriesPerDatabase == [0: 1])
    #expect(old.keysByEncoding == [0: 3, 2: 1, 4: 1, 5: 1, 11: 1, 12: 1, 13: 1, 14: 1, 15: 1])
    #expect(old.aux["redis-ver"] == "6.2.14")
    // Whole scripts are nobody's to show.
    #expect(old.aux["lua"] == nil)

    let new = try RDBHostileTests.scan(RecordedFiles.version12)
    #expect(new.version == 12)
    #expect(new.keysPerDatabase == [0: 12])
    #expect(new.expiriesPerDatabase == [0: 1])
    #expect(new.keysByType == ["string": 2, "list": 1, "set": 2, "zset": 1, "hash": 4, "stream": 1, "module": 1])
    #expect(Set(new.keysByEncoding.keys) == [0, 4, 7, 11, 16, 17, 18, 20, 21, 24, 25])
    #expect(new.functions == 1)
    #expect(new.moduleNames == ["graphdata", "graphmeta"] || new.moduleNames == ["graphdata"])
  }

  @Test("Forms that are written by hand are read; the server loads those that it knows, with equal counts")
  func forms() async throws {
    let old = RDBForge.oldForms().file()
    let summary = try RDBHostileTests.scan(old)
    #expect(summary.keys == 9 && summary.expiries == 1 && summary.checksum == .verified)
    let new = try RDBHostileTests.scan(RDBForge.newForms().file())
    #expect(new.keysByEncoding == [22: 1, 23: 1, 24: 1, 25: 1, 0: 1])
    let size = try await RDBHostileTests.load(old)
    #expect(size == "9")
  }

  /// How many keys a server has that starts on a file.
  private static func load(_ file: [UInt8]) async throws -> String {
    try await withTemporaryFolder { folder in
      try Data(file).write(to: URL(filePath: "\(folder)/dump.rdb"))
      return try await LocalRedis.with(in: folder) { try await $0.command("dbsize") }
    }
  }

  @Test("A file without a checksum is read and said to have none; a wrong checksum is refused")
  func checksums() throws {
    #expect(try RDBHostileTests.scan(RDBForge.oldForms().file(checksum: false)).checksum == .absent)
    var file = RDBForge.oldForms().file()
    file[file.count - 3] ^= 1
    let error = try #require(RDBHostileTests.refusal(file))
    #expect(error.code == .corruptData)
    #expect(error.message.contains("offset \(file.count - 8)"))
    #expect(error.object == "test.rdb")
  }

  @Test("A file cut at any place is refused, and so is one with a bit flipped at any place")
  func everyCutAndFlip() {
    for file in [
      RecordedFiles.version9, RecordedFiles.version12, RDBForge.oldForms().file(), RDBForge.newForms().file(),
    ] {
      for end in 0..<file.count {
        let error = RDBHostileTests.refusal(Array(file[..<end]))
        #expect(error?.code == .truncatedData, "cut at \(end): \(error.map { "\($0)" } ?? "accepted")")
        #expect(error?.message.contains("while reading") == true)
      }
      for place in 0..<file.count {
        var flipped = file
        flipped[place] ^= 1 << UInt8(place % 8)
        #expect(RDBHostileTests.refusal(flipped) != nil, "flipped at \(place)")
      }
      #expect(RDBHostileTests.refusal(file + [0])?.code == .malformedData)
    }
  }

  @Test("A server's file, cut or flipped at random places: refused by us and by redis-check-rdb")
  func judged() async throws {
    let whole = try await LocalRedis.with { server in
      try await SampleKeys.fill(server)
      return try await server.save()
    }
    var random = TestData.Random(seed: 12)
    try await withTemporaryFolder { folder in
      let path = "\(folder)/damaged.rdb"
      func accepted(_ bytes: [UInt8]) async throws -> (ours: Bool, theirs: Bool) {
        try Data(bytes).write(to: URL(filePath: path))
        let judge = try await runCommand("redis-check-rdb", [path])
        return (RDBHostileTests.refusal(bytes) == nil, judge.status == 0)
      }
      #expect(try await accepted(whole) == (true, true))
      for round in 0..<100 {
        let place = Int.random(in: 0..<whole.count, using: &random)
        var damaged = whole
        if round % 2 == 0 {
          damaged.removeSubrange(place...)
        } else {
          damaged[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        }
        let (ours, theirs) = try await accepted(damaged)
        #expect(!ours && !theirs, "round \(round), at \(place)")
      }
    }
  }

  @Test("What is unknown is refused by name: versions, Valkey, opcodes, types, forms of release candidates")
  func unknown() throws {
    for version in ["0000", "0013", "0080", "9999"] {
      let error = try #require(RDBHostileTests.refusal(RDBForge(version: version).file()))
      #expect(error.code == .unsupportedVersion)
    }
    let valkey = try #require(RDBHostileTests.refusal(RDBForge.sealed(Array("VALKEY080".utf8) + [255])))
    #expect(valkey.code == .unsupportedVersion && valkey.message.contains("Valkey"))
    for text in ["RADIS0010", "REDIS00x0", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"] {
      #expect(RDBHostileTests.refusal(RDBForge.sealed(Array(text.utf8) + [255]))?.code == .malformedData)
    }
    for byte in [UInt8(8), 26, 100, 243, 246, 6] {
      var forge = RDBForge()
      forge.add([byte] + RDBForge.string("key") + RDBForge.string("value"))
      let error = try #require(RDBHostileTests.refusal(forge.file()))
      #expect(error.code == .unsupportedVersion, "\(byte)")
      #expect(error.message.contains("offset 9"))
    }
  }

  @Test("Lengths that lie are errors, not allocations")
  func lies() throws {
    let most: [UInt8] = [0x81] + [UInt8](repeating: 0xFF, count: 8)
    let huge: [UInt8] = [0x80, 0xFF, 0xFF, 0xFF, 0xFF]
    let eight = [UInt8](repeating: 0, count: 8)
    var values: [(UInt8, [UInt8])] = []
    for length in [most, huge] {
      for type in RDBType.allCases { values.append((type.rawValue, RDBForge.join(length, [97, 98, 99]))) }
      values.append((0, RDBForge.join([0xC3], length, length, [1, 2, 3])))
      values.append((0, RDBForge.join([0xC3, 3], length, [1, 2, 3])))
      values.append((19, RDBForge.join([1, 16], eight, eight, length)))
      values.append((19, RDBForge.join([0], eight, length)))
      values.append((7, RDBForge.join([0x81, 1, 2, 3, 4, 5, 6, 7, 8, 5], length)))
      values.append((18, RDBForge.join([1, 2], length)))
      values.append((24, RDBForge.join(eight, length)))
    }
    for (type, value) in values {
      var forge = RDBForge()
      forge.key("key", type, value)
      let error = try #require(RDBHostileTests.refusal(forge.file()), "\(type) \(value)")
      #expect([.malformedData, .truncatedData].contains(error.code), "\(error)")
      #expect(error.message.contains("while reading"))
    }
    // Packed collections that lie inside.
    let short = RDBForge.listpack(["a", "b"])
    var packed: [(UInt8, [UInt8])] = [(16, RDBForge.listpack(["a"])), (12, RDBForge.ziplist(["a"])), (10, [])]
    packed.append((25, RDBForge.join([UInt8](repeating: 0, count: 8), RDBForge.string(short))))
    packed.append((20, RDBForge.listpack([])))
    packed.append((9, [5, 1, 97, 1, 0, 98, 255]))
    let header = RDBForge.join(RDBForge.little(2, 4), RDBForge.little(2, 4))
    packed.append((11, RDBForge.join(header, RDBForge.little(5, 2), RDBForge.little(1, 2))))
    packed.append((11, RDBForge.join(RDBForge.little(3, 4), RDBForge.little(0, 4))))
    packed.append((16, [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0xFF]))
    packed.append((13, RDBForge.join(RDBForge.little(11, 4), RDBForge.little(99, 4), [0, 0, 0xFF])))
    for (type, value) in packed {
      var forge = RDBForge()
      forge.key("key", type, type == 25 ? value : RDBForge.string(value))
      let error = try #require(RDBHostileTests.refusal(forge.file()), "\(type) \(value)")
      #expect(error.code == .malformedData, "\(error)")
    }
  }

  @Test("A compressed value that is not sound is refused when values are checked")
  func compressed() throws {
    var sound = RDBForge()
    sound.key("key", 0, [0xC3, 4, 22, 0, 97, 0xE0, 12])
    #expect(RDBHostileTests.refusal(sound.file())?.code == .malformedData)
    var right = RDBForge()
    right.key("key", 0, [0xC3, 5, 22, 0, 97, 0xE0, 12, 0])
    #expect(try RDBHostileTests.scan(right.file()).keys == 1)
    var back = RDBForge()
    back.key("key", 0, [0xC3, 5, 22, 0, 97, 0xE0, 12, 1])
    #expect(RDBHostileTests.refusal(back.file())?.code == .malformedData)
  }

  /// Every mutation has the right checksum, so that the parser and not the checksum has to bear it. `DR_FUZZ_COUNT` files;
  /// a crash ends the test run.
  @Test("Mutated files with right checksums are read or refused, never worse")
  func fuzz() async throws {
    let count = Int(ProcessInfo.processInfo.environment["DR_FUZZ_COUNT"] ?? "") ?? 6000
    let seeds = [
      RecordedFiles.version9, RecordedFiles.version12, RDBForge.oldForms().file(), RDBForge.newForms().file(),
    ]
    var random = TestData.Random(seed: UInt64(count))
    var accepted = 0
    for number in 0..<count {
      let file = RDBMutation.mutate(seeds[number % seeds.count], &random)
      let pieces = TestData.pieces(of: ByteBuffer(bytes: file), upTo: number % 3 == 0 ? 40 : 4000, seed: random.next())
      let scanned = Result { try RDBScannerTests.scan(pieces) }
      let entries = Result { try RDBEntryTests.read(pieces).count }
      switch (scanned, entries) {
      case (.success(let summary), .success(let number)):
        accepted += 1
        #expect(summary.keys == number)
      case (.success, .failure(let error)):
        // Only a key that does not decompress, which no check of values looks at.
        #expect("\(error)".contains("a key"))
      case (.failure(let error), _):
        #expect(error is DRError && "\(error)".contains("offset") || "\(error)".contains("unsupported-version"))
        #expect("\(error)".utf8.count < 1000)
      }
    }
    // Some mutations do no harm, most do.
    #expect(accepted > 0 && accepted < count)
    print("\(count) mutated RDB files: \(accepted) read, \(count - accepted) refused")
  }
}
