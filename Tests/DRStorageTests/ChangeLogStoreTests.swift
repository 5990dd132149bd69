import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// Segments: immutable, told apart by their content, and found damaged when they are.
struct ChangeLogStoreTests {
  static let name = "0000000100000000000000A1"

  static func store(_ tier: any StorageTier, system: String = "7301", name: String = "app") throws -> ChangeLogStore {
    try ChangeLogStore(tier: tier, component: .postgres(name), systemIdentifier: system) { name in
      name.count >= 24 ? String(name.prefix(16)) : nil
    }
  }

  @Test("A segment is stored under its name and digest, once, and reads back")
  func roundTrip() async throws {
    try await withLocalTier { tier, path in
      let store = try Self.store(tier)
      let raw = TestData.rows(16 << 20)
      let history = ByteBuffer(string: "1\t0/5000000\tno recovery target specified\n")
      #expect(try await store.put(Self.name, raw) == false)
      #expect(try await store.put("00000002.history", history, encoding: Encoding(compression: .gzip())) == false)
      // A repeated archive_command, or two streams of one server: the same content under the same name.
      #expect(try await store.put(Self.name, raw) == true)
      #expect(try await store.put(Self.name, raw, encoding: Encoding(compression: .gzip())) == true)
      #expect(try await store.put("00000002.history", history) == true)
      let digest = StreamDigest.hex(raw)
      let file = "postgres/wal/7301/0000000100000000/\(Self.name)-\(digest).zst"
      #expect(
        files(in: path) == [file, "postgres/wal/7301/00000002.history-\(StreamDigest.hex(history)).gz"])
      #expect(try await store.get(Self.name) == raw)
      #expect(try await store.get("00000002.history") == history)
      // As the documentation says to do by hand.
      let shell = try await runCommand("sh", ["-c", "zstd -q -d -c \"$0\" | sha256sum", "\(path)/\(file)"])
      #expect(String(decoding: shell.output, as: UTF8.self).hasPrefix(digest))

      let segments = try await store.segments()
      #expect(segments.map(\.name) == [Self.name, "00000002.history"])
      #expect(segments.map(\.sha256) == [digest, StreamDigest.hex(history)])
      #expect(segments.map(\.key.rawValue).first == file)
      #expect(try await store.names() == [Self.name, "00000002.history"])
      #expect(try await store.names(after: Self.name) == ["00000002.history"])
      #expect(try await store.names(after: "0000000100000000000000A0").count == 2)
      #expect(try await store.segments(startingWith: Self.name) == [segments[0]])
      #expect(try await store.segments(startingWith: "00000002") == [segments[1]])
      #expect(try await store.segments(startingWith: "0000000100000000000000A2").isEmpty)
      try await store.delete(Self.name)
      try await store.delete(Self.name)
      #expect(try await store.names() == ["00000002.history"])
      #expect(await code { _ = try await store.get(Self.name) } == .objectNotFound)
    }
  }

  @Test("Other content under the same name is a hard error and changes nothing")
  func conflict() async throws {
    try await withLocalTier { tier, path in
      let store = try Self.store(tier)
      let raw = TestData.rows(100_000)
      _ = try await store.put(Self.name, raw)
      let before = files(in: path)
      var other = raw
      other.setInteger(UInt8(0), at: 50_000)
      for content in [other, ByteBuffer(string: "x"), TestData.rows(99_999)] {
        let error = await #expect(throws: DRError.self) { try await store.put(Self.name, content) }
        #expect(error?.code == .segmentConflict)
        #expect(error?.message.contains(StreamDigest.hex(raw)) == true)
      }
      #expect(files(in: path) == before)
      #expect(try await store.get(Self.name) == raw)
      // A name that goes on where another ends is another name.
      #expect(try await store.put(Self.name + "-x", other) == false)
      #expect(try await store.put(Self.name + ".00000028.backup", other) == false)
      #expect(try await store.get(Self.name) == raw)
    }
  }

  @Test("Of writers that race with different content, none is told that all is well once both are stored")
  func race() async throws {
    try await withLocalTier { tier, path in
      let store = try Self.store(tier)
      for round in 0..<10 {
        let name = "0000000100000000000000" + (round < 10 ? "0\(round)" : "\(round)")
        let outcomes = await withTaskGroup(of: (Int, DRError.Code?).self) { group in
          for writer in 0..<6 {
            group.addTask {
              (writer % 2, await code { _ = try await store.put(name, TestData.rows(5_000, seed: UInt64(writer % 2))) })
            }
          }
          return await group.reduce(into: [(Int, DRError.Code?)]()) { $0.append($1) }
        }
        let succeeded = Set(outcomes.filter { $0.1 == nil }.map(\.0))
        #expect(succeeded.count <= 1)
        #expect(outcomes.allSatisfy { $0.1 == nil || $0.1 == .segmentConflict })
        let stored = try await store.segments().filter { $0.name == name }
        #expect((1...2).contains(stored.count))
        if stored.count == 2 {
          #expect(await code { _ = try await store.get(name) } == .segmentConflict)
          // Repeated, each one is told so again.
          for writer in 0..<2 {
            #expect(
              await code { _ = try await store.put(name, TestData.rows(5_000, seed: UInt64(writer))) }
                == .segmentConflict)
          }
        } else {
          #expect(try await store.get(name).readableBytes == 5_000)
        }
      }
      #expect(!files(in: path).contains { $0.contains(".dr-tmp-") })
    }
  }

  @Test("Equal writers that race all succeed, and one object is stored")
  func equalRace() async throws {
    try await withLocalTier { tier, path in
      let store = try Self.store(tier)
      let raw = TestData.rows(200_000)
      try await withThrowingTaskGroup(of: Bool.self) { group in
        for _ in 0..<12 { group.addTask { try await store.put(Self.name, raw) } }
        try await group.waitForAll()
      }
      #expect(files(in: path).count == 1)
      #expect(try await store.get(Self.name) == raw)
    }
  }

  @Test("What cannot be a segment is refused: no content, no compression, a name that is a path")
  func refused() async throws {
    try await withLocalTier { tier, path in
      let store = try Self.store(tier)
      let raw = ByteBuffer(string: "x")
      #expect(await code { _ = try await store.put(Self.name, ByteBuffer()) } == .malformedData)
      #expect(await code { try await store.putPartial(Self.name, ByteBuffer()) } == .malformedData)
      let plain = Encoding(compression: .none)
      #expect(await code { _ = try await store.put(Self.name, raw, encoding: plain) } == .invalidConfiguration)
      #expect(await code { try await store.putPartial(Self.name, raw, encoding: plain) } == .invalidConfiguration)
      for name in ["", "a/b", "..", "../x", "a\0b", ".dr-tmp-x", "a/\u{301}b", String(repeating: "a", count: 250)] {
        #expect(await code { _ = try await store.put(name, raw) } == .invalidKey, "\(name)")
        #expect(await code { try await store.putPartial(name, raw) } == .invalidKey, "\(name)")
      }
      for system in ["", "..", "a/b"] {
        #expect(await code { _ = try Self.store(tier, system: system) } == .invalidKey)
      }
      #expect(everything(in: path) == [".dr-tier"])
    }
  }

  @Test("A partial segment is replaced as it grows, and is not taken for a full one")
  func partial() async throws {
    try await withLocalTier { tier, path in
      let store = try Self.store(tier)
      #expect(await code { _ = try await store.getPartial(Self.name) } == .objectNotFound)
      for size in [1, 8192, 3_000_000, 100] {
        try await store.putPartial(Self.name, TestData.rows(size))
        #expect(try await store.getPartial(Self.name) == TestData.rows(size))
        #expect(files(in: path) == ["postgres/wal/7301/0000000100000000/\(Self.name).partial.zst"])
      }
      #expect(try await store.names().isEmpty)
      #expect(await code { _ = try await store.get(Self.name) } == .objectNotFound)
      // In another encoding it takes the old one's place too.
      try await store.putPartial(Self.name, TestData.rows(200), encoding: Encoding(compression: .gzip()))
      #expect(files(in: path).count == 1)
      #expect(try await store.getPartial(Self.name) == TestData.rows(200))
      // PostgreSQL itself archives a segment of such a name at a promotion: that one is full.
      _ = try await store.put(Self.name + ".partial", TestData.rows(300))
      _ = try await store.put(Self.name, TestData.rows(400))
      #expect(try await store.get(Self.name + ".partial") == TestData.rows(300))
      #expect(try await store.getPartial(Self.name) == TestData.rows(200))
      let segments = try await store.segments()
      #expect(segments.map(\.name) == [Self.name, Self.name, Self.name + ".partial"])
      #expect(segments.map(\.isPartial) == [false, true, false])
      try await store.deletePartial(Self.name)
      try await store.deletePartial(Self.name)
      #expect(try await store.segments().map(\.isPartial) == [false, false])
    }
  }

  @Test("A partial segment that is interrupted while it is replaced stays the old one, whole")
  func partialInterrupted() async throws {
    try await withLocalTier { tier, _ in
      let store = try Self.store(tier)
      try await store.putPartial(Self.name, TestData.rows(50_000, seed: 1))
      for fault in FaultInjectingTier.Fault.failing {
        let faulty = try Self.store(FaultInjectingTier(tier, failing: 1, fault, killing: true))
        await #expect(throws: DRError.self) {
          try await faulty.putPartial(Self.name, TestData.rows(80_000, seed: 2))
        }
        let expected = fault == .after ? TestData.rows(80_000, seed: 2) : TestData.rows(50_000, seed: 1)
        #expect(try await store.getPartial(Self.name) == expected)
        try await store.putPartial(Self.name, TestData.rows(50_000, seed: 1))
      }
    }
  }

  @Test("A put that is interrupted anywhere can be repeated")
  func interrupted() async throws {
    for call in 1...3 {
      for fault in FaultInjectingTier.Fault.failing {
        try await withLocalTier { tier, _ in
          let raw = TestData.rows(100_000)
          let faulty = try Self.store(FaultInjectingTier(tier, failing: call, fault, killing: true))
          await #expect(throws: DRError.self) { _ = try await faulty.put(Self.name, raw) }
          let store = try Self.store(tier)
          _ = try await store.put(Self.name, raw)
          #expect(try await store.get(Self.name) == raw)
          #expect(try await tier.keys().count == 1)
        }
      }
    }
  }

  @Test("A flipped bit or a cut anywhere in a segment is found, and not being able to look is not being absent")
  func damaged() async throws {
    try await withLocalTier { tier, path in
      let store = try Self.store(tier)
      _ = try await store.put(Self.name, TestData.rows(300_000), encoding: smallFrames)
      let key = try #require(try await store.segments().first).key
      let url = URL(fileURLWithPath: "\(path)/\(key)")
      let good = try Data(contentsOf: url)
      var random = TestData.Random(seed: 31)
      for _ in 0..<60 {
        var bad = good
        if Bool.random(using: &random) {
          bad[Int.random(in: 0..<bad.count, using: &random)] ^= 1 << UInt8.random(in: 0...7, using: &random)
        } else {
          bad = bad.prefix(Int.random(in: 0..<bad.count, using: &random))
        }
        try bad.write(to: url)
        // A bit that changes nothing (in the seek table, which a whole read passes by) gives the right bytes.
        do {
          #expect(try await store.get(Self.name) == TestData.rows(300_000))
        } catch let error as DRError {
          #expect(error.code != .objectNotFound)
          #expect(error.object == key.rawValue)
        }
      }
      // A whole segment of other content, under this one's digest.
      let other = try Self.store(tier, system: "other")
      _ = try await other.put(Self.name, TestData.rows(300_000, seed: 99))
      let stranger = try #require(try await other.segments().first).key
      try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(stranger)")).write(to: url)
      let error = await #expect(throws: DRError.self) { try await store.get(Self.name) }
      #expect(error?.code == .corruptData)
      rename(path, path + ".gone")
      #expect(await code { _ = try await store.get(Self.name) } == .tierUnavailable)
      #expect(await code { _ = try await store.names() } == .tierUnavailable)
      rename(path + ".gone", path)
    }
  }

  @Test("Systems do not mix, and foreign files are passed by")
  func foreign() async throws {
    try await withLocalTier { tier, _ in
      let (one, two) = (try Self.store(tier, system: "1"), try Self.store(tier, system: "12"))
      _ = try await one.put(Self.name, TestData.rows(100, seed: 1))
      _ = try await two.put(Self.name, TestData.rows(100, seed: 2))
      let digest = String(repeating: "a", count: 64)
      for file in [
        "notes.txt", "\(Self.name).zst", "\(Self.name)-\(digest).zst", "0000000100000000/x-\(digest.dropLast()).zst",
        "0000000100000000/\(Self.name)-\(digest).lz4", "0000000100000000/\(Self.name)-\(digest.uppercased()).zst",
        "0000000100000000/-\(digest).zst", "0000000100000000/.partial.zst",
      ] { try await tier.put("postgres/wal/1/\(file)", "x") }
      #expect(try await one.names() == [Self.name])
      #expect(try await one.segments().count == 1)
      #expect(try await one.get(Self.name) == TestData.rows(100, seed: 1))
      #expect(try await two.get(Self.name) == TestData.rows(100, seed: 2))
      let redis = try ChangeLogStore(
        tier: tier, component: Component(.redis, "cache"), layout: .byKindAndName, log: "changes", systemIdentifier: "r"
      )
      _ = try await redis.put("42", ByteBuffer(string: "x"))
      #expect(try await redis.segments().first?.key.rawValue.hasPrefix("redis/cache/changes/r/42-") == true)
    }
  }
}

/// Whoever hands a segment over removes his own copy after a success.
@Suite struct ChangeLogHealingTests {
  @Test("A segment that is handed over again replaces a stored one that was damaged since")
  func healed() async throws {
    try await withTemporaryFolder { folder in
      let store = try ChangeLogStore(
        tier: try await LocalTier(root: folder + "/tier", creating: true),
        component: try Component(.postgres, "app"), systemIdentifier: "7")
      let raw = TestData.rows(200_000)
      #expect(try await store.put("one", raw) == false)
      let key = try #require(try await store.segments().first?.key)
      let file = URL(filePath: "\(folder)/tier/\(key)")
      for damage in [Data(), try Data(contentsOf: file).prefix(100)] {
        try damage.write(to: file)
        await #expect(throws: DRError.self) { _ = try await store.get("one") }
        #expect(try await store.put("one", raw) == true)
        #expect(try await store.get("one") == raw)
      }
    }
  }
}
