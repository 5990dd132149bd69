import DRCore
import DRStorage
import DRTestSupport
import Foundation
import NIOCore
import Testing

/// The contract of a tier, on a real file system.
struct LocalTierTests {
  @Test(
    "An object reads back as it was put, whole and by range",
    arguments: [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 20_000_003])
  func roundTrip(size: Int) async throws {
    try await withLocalTier { tier, path in
      let key = try ObjectKey("postgres/daily/object")
      let content = TestData.rows(size)
      let info = try await tier.put(key, ByteStream(TestData.pieces(of: content, upTo: 300_000)), PutOptions())
      #expect(info.size == Int64(size))
      #expect(try await tier.head(key) == info)
      #expect(try await tier.listAll(prefix: "") == [info])
      #expect(try await tier.read(key) == content)
      #expect(try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(key)")) == Data(content.readableBytesView))
      var random = TestData.Random(seed: 7)
      for _ in 0..<20 {
        let start = Int.random(in: 0...size, using: &random)
        let end = Int.random(in: start...size, using: &random)
        let part = try await tier.get(key, range: Int64(start)..<Int64(end)).collect(limit: size)
        #expect(part == content.getSlice(at: start, length: end - start))
      }
      for outside in [0..<Int64(size + 1), Int64(size)..<Int64(size + 5), -1..<0] {
        #expect(await code { _ = try await tier.get(key, range: outside) } == .truncatedData)
      }
    }
  }

  @Test("What is absent is said to be absent")
  func absent() async throws {
    try await withLocalTier { tier, _ in
      try await tier.put("a/b", "here")
      for text in ["x", "a", "a/x", "a/b/c", "x/y/z"] {
        let key = try ObjectKey(text)
        #expect(await code { _ = try await tier.get(key, range: nil) } == .objectNotFound)
        #expect(await code { _ = try await tier.get(key, range: 0..<1) } == .objectNotFound)
        #expect(try await tier.head(key) == nil)
        try await tier.delete(key)
      }
      #expect(try await tier.keys() == ["a/b"])
    }
  }

  @Test("A put replaces the object in one step: who reads the old one reads it to its end")
  func replace() async throws {
    try await withLocalTier { tier, _ in
      let key = try ObjectKey("a/b")
      let (old, new) = (TestData.rows(3_000_000, seed: 1), TestData.rows(2_000_000, seed: 2))
      _ = try await tier.put(key, ByteStream(old), PutOptions())
      let reading = try await tier.get(key, range: nil)
      var iterator = reading.makeAsyncIterator()
      var seen = try #require(try await iterator.next())
      _ = try await tier.put(key, ByteStream(new), PutOptions())
      while let more = try await iterator.next() { seen.writeImmutableBuffer(more) }
      #expect(seen == old)
      #expect(try await tier.read(key) == new)
    }
  }

  @Test("A body that breaks, or is cancelled, leaves the previous state and nothing else")
  func brokenBody() async throws {
    struct Broken: Error {}
    try await withLocalTier { tier, path in
      try await tier.put("a/old", "old")
      let before = everything(in: path)
      for key in ["a/old", "a/new", "b/c/new"] {
        for size in [0, 10, 5_000_000] {
          let pieces = MutableBox(TestData.pieces(of: TestData.rows(size), upTo: 700_000)[...])
          await #expect(throws: Broken.self) {
            let body = ByteStream {
              guard let piece = pieces.withLock({ $0.popFirst() }) else { throw Broken() }
              return piece
            }
            _ = try await tier.put(ObjectKey(key), body, PutOptions())
          }
          #expect(everything(in: path) == before)
        }
        let started = AsyncStream.makeStream(of: Void.self)
        let task = Task {
          let body = ByteStream {
            started.continuation.yield()
            return TestData.rows(100_000)
          }
          _ = try await tier.put(ObjectKey(key), body, PutOptions())
        }
        for await _ in started.stream { break }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(everything(in: path) == before)
      }
      #expect(try await tier.text("a/old") == "old")
    }
  }

  @Test("Of twenty writers that may write only if absent, one wins")
  func oneWins() async throws {
    try await withLocalTier { tier, path in
      #expect(tier.capabilities.contains(.conditionalPut))
      for round in 0..<5 {
        let winners = try await withThrowingTaskGroup(of: Int?.self) { group in
          for writer in 0..<20 {
            group.addTask {
              do {
                try await tier.put("a/\(round)", "writer \(writer)", onlyIfAbsent: true)
                return writer
              } catch let error as DRError where error.code == .objectExists {
                return nil
              }
            }
          }
          return try await group.reduce(into: [Int]()) { if let winner = $1 { $0.append(winner) } }
        }
        #expect(winners.count == 1)
        #expect(try await tier.text("a/\(round)") == "writer \(winners.first ?? -1)")
      }
      #expect(files(in: path) == ["a/0", "a/1", "a/2", "a/3", "a/4"])
    }
  }

  @Test("Listing is in byte order, by any prefix, from any key, in pages of any size")
  func listing() async throws {
    try await withLocalTier { tier, path in
      var random = TestData.Random(seed: 11)
      let names = ["a", "a-", "a.", "a0", "aa", "b", "é", "ab", "z", "A", "~"]
      var keys: Set<String> = []
      for _ in 0..<150 {
        let depth = Int.random(in: 1...4, using: &random)
        let key = (0..<depth).map { _ in names.randomElement(using: &random) ?? "a" }.joined(separator: "/")
        let isBlocked = keys.contains { $0.hasPrefix(key + "/") || key.hasPrefix($0 + "/") || $0 == key }
        if !isBlocked { keys.insert(key) }
      }
      for key in keys { try await tier.put(key, "x") }
      // What is no object: a temporary file, the marker, a name that no key can have, a named pipe.
      for foreign in [".dr-tmp-0123", "a\u{1}b", "lost+found"] {
        try Data("x".utf8).write(to: URL(fileURLWithPath: "\(path)/\(foreign)"))
      }
      #expect(mkfifo("\(path)/fifo", 0o600) == 0)
      let sorted = keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      #expect(try await tier.keys() == sorted)
      for _ in 0..<200 {
        let source = sorted.randomElement(using: &random) ?? ""
        let prefix = String(
          decoding: source.utf8.prefix(Int.random(in: 0...source.utf8.count, using: &random)), as: UTF8.self)
        let after = Bool.random(using: &random) ? nil : sorted.randomElement(using: &random).map { $0 + "!" }
        let limit = Int.random(in: 1...12, using: &random)
        let page = try await tier.list(prefix: prefix, after: after.map { try ObjectKey($0) }, limit: limit)
        let expected = sorted.filter { key in
          key.utf8.starts(with: prefix.utf8) && (after.map { $0.utf8.lexicographicallyPrecedes(key.utf8) } ?? true)
        }
        #expect(page.objects.map(\.key.rawValue) == Array(expected.prefix(limit)), "\(prefix) after \(after ?? "-")")
        #expect((page.next == nil) == (expected.count <= limit))
      }
      for limit in [1, 7] {
        var paged: [String] = []
        var after: ObjectKey?
        repeat {
          let page = try await tier.list(prefix: "a", after: after, limit: limit)
          paged += page.objects.map(\.key.rawValue)
          after = page.next
        } while after != nil
        #expect(paged == sorted.filter { $0.hasPrefix("a") })
      }
      for nothing in ["../", "/", "a//", "..", "a/../a", ".dr-t", ".dr-tmp-"] {
        #expect(try await tier.keys(nothing).isEmpty, "\(nothing)")
      }
    }
  }

  @Test("Deleting removes folders that became empty, while others put into them and list them")
  func deleteAndPut() async throws {
    try await withLocalTier { tier, path in
      try await tier.put("a/b/c/d", "x")
      try await tier.put("a/e", "x")
      try await tier.delete(ObjectKey("a/b/c/d"))
      #expect(everything(in: path) == [".dr-tier", "a", "a/e"])
      try await tier.delete(ObjectKey("a/e"))
      #expect(everything(in: path) == [".dr-tier"])

      try await withThrowingTaskGroup(of: Void.self) { group in
        for worker in 0..<4 {
          group.addTask {
            for round in 0..<60 {
              let key = "x/y/z/\(worker)"
              try await tier.put(key, "\(round)")
              #expect(try await tier.text(key) == "\(round)")
              try await tier.delete(ObjectKey(key))
            }
          }
        }
        group.addTask {
          for _ in 0..<200 {
            let seen = try await tier.keys("x/y")
            let removed = try await tier.removeAbandonedUploads(olderThan: .distantPast)
            #expect(seen.allSatisfy { $0.hasPrefix("x/y/z/") } && removed == 0)
          }
        }
        try await group.waitForAll()
      }
      #expect(files(in: path).isEmpty)
    }
  }

  @Test("What a killed put left is shown by nothing, and removed once it is old")
  func abandoned() async throws {
    try await withLocalTier { tier, path in
      try await tier.put("a/b", "x")
      let old = "\(path)/a/.dr-tmp-00000000000000000000000000000000"
      let young = "\(path)/.dr-tmp-11111111111111111111111111111111"
      for file in [old, young] { try Data("half".utf8).write(to: URL(fileURLWithPath: file)) }
      try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -7200)], ofItemAtPath: old)
      #expect(try await tier.keys() == ["a/b"])
      #expect(try await tier.removeAbandonedUploads(olderThan: Date(timeIntervalSinceNow: -3600)) == 1)
      #expect(files(in: path) == ["a/b", ".dr-tmp-11111111111111111111111111111111"])
      #expect(try await tier.removeAbandonedUploads(olderThan: .distantFuture) == 1)
      #expect(files(in: path) == ["a/b"])
    }
  }
}
